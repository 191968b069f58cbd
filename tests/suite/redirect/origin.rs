//! The origin record: where an accepted connection wanted to go, and who opened it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use transparent_proxy::datapath::{Datapath, Origins, cgroup};

use super::{ANYBODY, PATIENCE, errno, listen, load};
use crate::harness::node::{self, Network, PROXY4, PROXY6, Pod, at, join, lonely_node};

/// Which virtual addresses lead to a listener; the client says which one it used.
const VIRTUAL_ADDRESSES: [&str; 4] = [
    "10.96.0.10:80",
    "[fd00:96::10]:80",
    "10.96.0.11:8080",
    "[fd00:96::11]:8080",
];

/// How a client connects, and what it does then.
#[derive(Debug, Clone, Copy)]
enum Manner {
    /// Waits for an answer.
    Polite,
    /// Sends its data and closes at once.
    FireAndForget,
    /// Sends its data with the SYN: the proxy may accept before `connect` is over.
    FastOpen,
    /// IPv4 on an IPv6 socket.
    Mapped,
}

const MANNERS: [Manner; 4] = [
    Manner::Polite,
    Manner::FireAndForget,
    Manner::FastOpen,
    Manner::Mapped,
];

impl Manner {
    fn connect(self, number: u8) -> io::Result<()> {
        let address: SocketAddr = VIRTUAL_ADDRESSES[usize::from(number)].parse().unwrap();
        match self {
            Self::Polite => {
                let mut client = TcpStream::connect(address)?;
                client.set_read_timeout(Some(PATIENCE))?;
                client.write_all(&[number])?;
                client.read_exact(&mut [0])
            }
            Self::FireAndForget => TcpStream::connect(address)?.write_all(&[number]),
            Self::FastOpen => {
                let client = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
                client
                    .send_to_with_flags(&[number], &address.into(), libc::MSG_FASTOPEN)
                    .map(drop)
            }
            Self::Mapped => {
                let ip = match address.ip() {
                    std::net::IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                    std::net::IpAddr::V6(ip) => ip,
                };
                TcpStream::connect(SocketAddr::new(ip.into(), address.port()))?.write_all(&[number])
            }
        }
    }
}

/// Several listeners, for their ports: a port that closed stays taken for a minute.
const LISTENERS: usize = 4;

/// Accepts `count` connections and compares each record with what the client says.
#[expect(
    clippy::needless_pass_by_value,
    reason = "closed when this panics, so that the clients end, too"
)]
fn check(listener: TcpListener, origins: &Origins, client: u64, count: usize) {
    for number in 0..count {
        let (mut accepted, from) = listener.accept().expect("nobody is lost");
        let caller = origins.of(&accepted).unwrap();
        let caller = caller.unwrap_or_else(|| panic!("number {number} from {from} has no origin"));
        accepted.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut said = [u8::MAX];
        accepted.read_exact(&mut said).unwrap();
        assert_eq!(
            caller.wanted,
            VIRTUAL_ADDRESSES[usize::from(said[0])].parse().unwrap()
        );
        assert_eq!(caller.cgroup, client);
        // Nobody may be there any more to read it.
        let _ = accepted.write_all(b".");
    }
}

#[test]
fn every_one_of_50_000_connections_has_the_right_origin_whatever_its_manner() {
    const EACH: usize = 12_500;
    if !node::privileged() {
        return;
    }
    let node = lonely_node();
    // Client and server (3), data without a cookie on both sides (4, 0x200), and on
    // listeners that did not ask for it (0x400); see the kernel's ip-sysctl.rst.
    node.namespace.sysctl("ipv4.tcp_fastopen", "1543");
    let mut datapath = load(true);
    let origins = datapath.origins();
    let listeners: Vec<_> = (0..LISTENERS).map(|_| listen(&node)).collect();
    datapath.attach(node.cgroup.path()).unwrap();
    let client_cgroup = cgroup::id(node.cgroup.path()).unwrap();

    // One listener after the other serves all addresses, under four clients.
    for listener in listeners {
        lead_to(&datapath, &listener);
        let total = EACH / LISTENERS * MANNERS.len();
        thread::scope(|scope| {
            let clients: Vec<_> = MANNERS
                .into_iter()
                .map(|manner| {
                    node.start(scope, move || {
                        for number in 0..EACH / LISTENERS {
                            let address = u8::try_from(number % VIRTUAL_ADDRESSES.len()).unwrap();
                            manner
                                .connect(address)
                                .unwrap_or_else(|error| panic!("{manner:?} {number}: {error}"));
                        }
                    })
                })
                .collect();
            check(listener, &origins, client_cgroup, total);
            clients.into_iter().for_each(join);
        });
    }
    assert_eq!(origins.handshakes(), 0, "nothing is left over");
    assert_eq!(datapath.counters().read().unwrap().origins_lost, 0);
    assert!(fast_opens(&node) > 1_000, "data did travel with the SYN");
}

fn lead_to(datapath: &Datapath, listener: &TcpListener) {
    let port = listener.local_addr().unwrap().port();
    for address in VIRTUAL_ADDRESSES {
        let address: SocketAddr = address.parse().unwrap();
        let proxy = if address.is_ipv4() { PROXY4 } else { PROXY6 };
        datapath
            .virtual_ips()
            .insert(address, at(proxy, port), ANYBODY)
            .unwrap();
    }
}

/// `TCPFastOpenPassive` of the pod's namespace.
fn fast_opens(pod: &Pod) -> u64 {
    let statistics = pod
        .run(|| std::fs::read_to_string("/proc/thread-self/net/netstat"))
        .unwrap();
    let mut lines = statistics.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let position = names
        .split(' ')
        .position(|name| name == "TCPFastOpenPassive")
        .unwrap();
    values.split(' ').nth(position).unwrap().parse().unwrap()
}

/// Their reset may overtake the end of their own handshake.
#[test]
fn clients_that_abort_at_once_have_an_origin_too() {
    const CLIENTS: usize = 2_000;
    if !node::privileged() {
        return;
    }
    let node = lonely_node();
    let mut datapath = load(true);
    let listener = listen(&node);
    lead_to(&datapath, &listener);
    datapath.attach(node.cgroup.path()).unwrap();
    let origins = datapath.origins();
    let address: SocketAddr = VIRTUAL_ADDRESSES[0].parse().unwrap();
    thread::scope(|scope| {
        let client = node.start(scope, || {
            for _ in 0..CLIENTS {
                let client: Socket = TcpStream::connect(address).unwrap().into();
                client.set_linger(Some(Duration::ZERO)).unwrap();
            }
        });
        for _ in 0..CLIENTS {
            let (accepted, _) = listener.accept().unwrap();
            assert_eq!(
                origins.of(&accepted).unwrap().expect("it was redirected").wanted,
                address
            );
        }
        join(client);
    });
    assert_eq!(origins.handshakes(), 0);
}

/// The socket remembers a virtual IP, but its peer is somebody else now.
#[test]
fn a_socket_that_fails_and_goes_elsewhere_has_no_origin() {
    if !node::privileged() {
        return;
    }
    let node = lonely_node();
    let mut datapath = load(true);
    let elsewhere = listen(&node);
    let address: SocketAddr = VIRTUAL_ADDRESSES[0].parse().unwrap();
    let closed = listen(&node).local_addr().unwrap().port();
    datapath
        .virtual_ips()
        .insert(address, at(PROXY4, closed), ANYBODY)
        .unwrap();
    datapath.attach(node.cgroup.path()).unwrap();

    let client = node.run(|| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap());
    assert_eq!(
        errno(client.connect(&address.into()).unwrap_err()),
        libc::ECONNREFUSED
    );
    let direct = at(PROXY4, elsewhere.local_addr().unwrap().port());
    client.connect(&direct.into()).unwrap();
    assert_eq!(client.peer_addr().unwrap().as_socket(), Some(direct));
    let (accepted, _) = elsewhere.accept().unwrap();
    assert_eq!(datapath.origins().of(&accepted).unwrap(), None);
}

#[test]
fn a_connection_that_was_not_redirected_has_no_origin() {
    if !node::privileged() {
        return;
    }
    let node = lonely_node();
    let mut datapath = load(true);
    let listener = listen(&node);
    datapath.attach(node.cgroup.path()).unwrap();
    let _client = node
        .run(|| TcpStream::connect(at(PROXY4, listener.local_addr().unwrap().port())))
        .unwrap();
    let (accepted, _) = listener.accept().unwrap();
    assert_eq!(datapath.origins().of(&accepted).unwrap(), None);
}

/// A handshake that nobody answers is remembered until its client gives up, or is swept.
#[test]
fn handshakes_that_come_to_nothing_leave_nothing_behind() {
    if !node::privileged() {
        return;
    }
    let network = Network::new();
    let mut datapath = load(true);
    let address: SocketAddr = VIRTUAL_ADDRESSES[0].parse().unwrap();
    // Nobody has this address on the cable.
    datapath
        .virtual_ips()
        .insert(address, at("10.244.0.77", 15_001), ANYBODY)
        .unwrap();
    datapath.attach(network.cgroup.path()).unwrap();
    let origins = datapath.origins();
    let connect = || {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        client.set_nonblocking(true).unwrap();
        assert_eq!(
            errno(client.connect(&address.into()).unwrap_err()),
            libc::EINPROGRESS
        );
        client
    };
    let client = network.client.run(connect);
    assert_eq!(origins.handshakes(), 1);
    drop(client);
    assert_eq!(origins.handshakes(), 0, "the client gave up");

    let _client = network.client.run(connect);
    assert_eq!(origins.sweep(Duration::from_hours(1)), 0, "too young");
    assert_eq!(origins.sweep(Duration::ZERO), 1);
    assert_eq!(origins.handshakes(), 0);
}
