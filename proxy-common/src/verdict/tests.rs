extern crate std;

use core::cell::Cell;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

/// The maps, as user space would have filled them.
#[derive(Debug, Default)]
struct FakeTables {
    ips: HashSet<Ip>,
    targets: HashMap<Endpoint, Target>,
    exempt: bool,
    caller: Option<NamespaceNumber>,
    questions: Cell<usize>,
    /// How many of them were about the caller.
    about_caller: Cell<usize>,
}

const OURS: NamespaceNumber = NamespaceNumber(1);
const THEIRS: NamespaceNumber = NamespaceNumber(2);

impl FakeTables {
    fn serve(self, address: &str, proxy: &str) -> Self {
        self.serve_only(NamespaceNumber::NONE, address, proxy)
    }

    fn serve_only(mut self, namespace: NamespaceNumber, address: &str, proxy: &str) -> Self {
        let address = endpoint(address);
        self.ips.insert(address.ip);
        self.targets
            .insert(address, Target::new(endpoint(proxy), namespace));
        self
    }

    fn called_by(self, caller: impl Into<Option<NamespaceNumber>>) -> Self {
        Self {
            caller: caller.into(),
            ..self
        }
    }

    fn asked(&self) {
        self.questions.set(self.questions.get() + 1);
    }
}

impl Tables for FakeTables {
    fn is_virtual(&self, ip: &Ip) -> bool {
        self.asked();
        self.ips.contains(ip)
    }

    fn target(&self, address: &Endpoint) -> Option<Target> {
        self.asked();
        self.targets.get(address).copied()
    }

    fn is_exempt(&self) -> bool {
        self.asked();
        self.exempt
    }

    fn caller(&self) -> Option<NamespaceNumber> {
        self.asked();
        self.about_caller.set(self.about_caller.get() + 1);
        self.caller
    }
}

fn endpoint(text: &str) -> Endpoint {
    text.parse::<SocketAddr>().unwrap().into()
}

fn tables() -> FakeTables {
    FakeTables::default()
        .serve("10.96.0.10:80", "10.244.0.1:15001")
        .serve("[fd00:96::10]:80", "[fd00:244::1]:15001")
}

fn decide(tables: &FakeTables, address: &str, transport: Transport) -> Verdict {
    verdict(
        &Attempt {
            address: endpoint(address),
            transport,
        },
        tables,
    )
}

#[test]
fn a_served_port_of_a_virtual_ip_is_redirected() {
    let target = endpoint("10.244.0.1:15001");
    for address in ["10.96.0.10:80", "[::ffff:10.96.0.10]:80"] {
        assert_eq!(
            decide(&tables(), address, Transport::Tcp),
            Verdict::Redirect(target)
        );
    }
    let target = endpoint("[fd00:244::1]:15001");
    assert_eq!(
        decide(&tables(), "[fd00:96::10]:80", Transport::Tcp),
        Verdict::Redirect(target)
    );
}

#[test]
fn another_port_of_a_virtual_ip_is_refused() {
    for port in [0, 1, 79, 81, 65535] {
        let address = std::format!("10.96.0.10:{port}");
        assert_eq!(
            decide(&tables(), &address, Transport::Tcp),
            Verdict::Refuse(Refusal::Port)
        );
    }
}

#[test]
fn udp_to_a_virtual_ip_is_refused_whatever_the_port() {
    for address in ["10.96.0.10:80", "10.96.0.10:53"] {
        assert_eq!(
            decide(&tables(), address, Transport::Udp),
            Verdict::Refuse(Refusal::Udp)
        );
    }
}

#[test]
fn other_transports_are_never_touched() {
    assert_eq!(
        decide(&tables(), "10.96.0.10:80", Transport::Other),
        Verdict::Pass
    );
}

#[test]
fn the_proxys_own_sockets_are_exempt() {
    let tables = FakeTables {
        exempt: true,
        ..tables()
    };
    assert_eq!(decide(&tables, "10.96.0.10:80", Transport::Tcp), Verdict::Exempt);
    assert_eq!(decide(&tables, "192.0.2.1:80", Transport::Tcp), Verdict::Pass);
}

#[test]
fn a_foreign_address_costs_one_question() {
    let tables = tables();
    assert_eq!(decide(&tables, "192.0.2.1:80", Transport::Tcp), Verdict::Pass);
    assert_eq!(tables.questions.get(), 1);
}

/// Port 80 is for everybody, port 81 for one namespace.
fn scoped_tables() -> FakeTables {
    FakeTables::default()
        .serve("10.96.0.10:80", "10.244.0.1:15001")
        .serve_only(OURS, "10.96.0.10:81", "10.244.0.1:15002")
}

#[test]
fn a_caller_of_another_namespace_is_refused() {
    for caller in [THEIRS, NamespaceNumber::NONE] {
        let tables = scoped_tables().called_by(caller);
        assert_eq!(
            decide(&tables, "10.96.0.10:81", Transport::Tcp),
            Verdict::Refuse(Refusal::Scope),
            "{caller:?}"
        );
    }
}

#[test]
fn a_caller_of_the_same_namespace_is_redirected_and_so_is_an_unknown_one() {
    for caller in [Some(OURS), None] {
        let tables = scoped_tables().called_by(caller);
        assert_eq!(
            decide(&tables, "10.96.0.10:81", Transport::Tcp),
            Verdict::Redirect(endpoint("10.244.0.1:15002")),
            "{caller:?}"
        );
    }
}

#[test]
fn where_everybody_may_connect_nobody_asks_who_it_is() {
    let tables = scoped_tables().called_by(THEIRS);
    assert_eq!(
        decide(&tables, "10.96.0.10:80", Transport::Tcp),
        Verdict::Redirect(endpoint("10.244.0.1:15001"))
    );
    for (address, transport) in [
        ("192.0.2.1:80", Transport::Tcp),
        ("10.96.0.10:81", Transport::Udp),
        ("10.96.0.10:82", Transport::Tcp),
    ] {
        decide(&tables, address, transport);
    }
    assert_eq!(tables.about_caller.get(), 0);
}

#[test]
fn transports_are_told_by_type_and_protocol() {
    assert_eq!(Transport::of(1, 6), Transport::Tcp);
    assert_eq!(Transport::of(1, 262), Transport::Tcp, "MPTCP");
    assert_eq!(Transport::of(2, 17), Transport::Udp);
    assert_eq!(Transport::of(1, 132), Transport::Other, "SCTP");
    assert_eq!(Transport::of(2, 1), Transport::Other, "ping");
    assert_eq!(Transport::of(3, 6), Transport::Other, "raw");
}

fn any_endpoint() -> impl Strategy<Value = Endpoint> {
    // Few values, so that attempts and entries meet.
    (0u8..4, 0u16..4)
        .prop_map(|(host, port)| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 66, 0, host)), port).into())
}

fn any_namespace() -> impl Strategy<Value = NamespaceNumber> {
    (0u32..3).prop_map(NamespaceNumber)
}

fn any_target() -> impl Strategy<Value = Target> {
    (any_endpoint(), any_namespace()).prop_map(|(proxy, namespace)| Target::new(proxy, namespace))
}

fn any_transport() -> impl Strategy<Value = Transport> {
    prop_oneof![Just(Transport::Tcp), Just(Transport::Udp), Just(Transport::Other)]
}

proptest! {
    /// What must hold whatever the tables contain.
    #[test]
    fn nothing_foreign_is_touched_and_nothing_virtual_leaves(
        entries in prop::collection::hash_map(any_endpoint(), any_target(), 0..8),
        address in any_endpoint(),
        transport in any_transport(),
        caller in prop::option::of(any_namespace()),
        exempt: bool,
    ) {
        let ips: HashSet<Ip> = entries.keys().map(|entry| entry.ip).collect();
        let virtual_ip = ips.contains(&address.ip);
        let tables = FakeTables { ips, targets: entries.clone(), exempt, caller, ..FakeTables::default() };
        let expected = match (virtual_ip, transport, exempt, entries.get(&address)) {
            (false, ..) | (true, Transport::Other, ..) => Verdict::Pass,
            (true, _, true, _) => Verdict::Exempt,
            (true, Transport::Udp, false, _) => Verdict::Refuse(Refusal::Udp),
            (true, Transport::Tcp, false, Some(target)) => match (target.namespace.0, caller) {
                (1.., Some(caller)) if caller != target.namespace => Verdict::Refuse(Refusal::Scope),
                _ => Verdict::Redirect(target.proxy),
            },
            (true, Transport::Tcp, false, None) => Verdict::Refuse(Refusal::Port),
        };
        prop_assert_eq!(verdict(&Attempt { address, transport }, &tables), expected);
    }
}
