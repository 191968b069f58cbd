//! Many connections, all of them right.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{ANYBODY, PATIENCE, listen, load};
use crate::harness::node::{self, Network, PROXY4, Pod, at, join, lonely_node};

/// As many destinations, each with a listener of its own.
const DESTINATIONS: usize = 5;

fn virtual_address(destination: usize) -> SocketAddr {
    at(&format!("10.96.0.{}", 11 + destination), 80)
}

/// Listeners for all destinations, which the hook on `cgroup` leads to.
struct Destinations {
    listeners: Vec<TcpListener>,
    datapath: transparent_proxy::datapath::Datapath,
}

impl Destinations {
    fn start(node: &Pod, cgroup: &std::path::Path) -> Self {
        let listeners: Vec<_> = (0..DESTINATIONS).map(|_| listen(node)).collect();
        let mut datapath = load(false);
        for (destination, listener) in listeners.iter().enumerate() {
            let proxy = at(PROXY4, listener.local_addr().unwrap().port());
            datapath
                .virtual_ips()
                .insert(virtual_address(destination), proxy, ANYBODY)
                .unwrap();
        }
        datapath.attach(cgroup).unwrap();
        Self { listeners, datapath }
    }

    /// Answers `count` connections to each destination with its number.
    fn answer<'scope>(&'scope self, scope: &'scope thread::Scope<'scope, '_>, count: usize) {
        for (destination, listener) in self.listeners.iter().enumerate() {
            scope.spawn(move || {
                let mut open = Vec::new();
                for _ in 0..count {
                    let (mut client, _) = listener.accept().expect("nobody is lost");
                    client.write_all(&[u8::try_from(destination).unwrap()]).unwrap();
                    open.push(client);
                    if open.len() > KEPT_OPEN {
                        open.clear();
                    }
                }
            });
        }
    }
}

/// More than a test holds at a time.
const KEPT_OPEN: usize = 200;

fn assert_answered_by(client: &mut TcpStream, destination: usize) {
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = [u8::MAX];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(usize::from(answer[0]), destination);
}

#[test]
fn none_of_50_000_short_connections_over_five_virtual_ips_is_lost_or_wrong() {
    const CLIENTS: usize = 4;
    const EACH: usize = 12_500;
    if !node::privileged() {
        return;
    }
    let node = lonely_node();
    let destinations = Destinations::start(&node, node.cgroup.path());
    let client = |first: usize| {
        for destination in (first..first + EACH).map(|number| number % DESTINATIONS) {
            let mut client = TcpStream::connect(virtual_address(destination)).unwrap();
            assert_answered_by(&mut client, destination);
        }
    };
    thread::scope(|scope| {
        destinations.answer(scope, CLIENTS * EACH / DESTINATIONS);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|first| node.start(scope, move || client(first)))
            .collect();
        clients.into_iter().for_each(join);
    });
    let counted = destinations.datapath.counters().read().unwrap();
    // Counting is not atomic, see the eBPF program; a preempted one may be missing.
    assert!(counted.redirected.abs_diff(50_000) < 50, "{counted:?}");
    assert_eq!(counted.refused_port + counted.refused_memory, 0, "{counted:?}");
}

/// Ports are counted per address that is connected to. With one listener for all, five
/// times as many connections would share them. <https://github.com/istio/istio/issues/38982>
#[test]
fn a_client_with_200_ports_holds_180_connections_to_each_of_five_virtual_ips() {
    const AT_ONCE: usize = 180;
    if !node::privileged() {
        return;
    }
    allow_many_files();
    let network = Network::new();
    network
        .client
        .namespace
        .sysctl("ipv4.ip_local_port_range", "40000 40199");
    let destinations = Destinations::start(&network.node, network.cgroup.path());
    thread::scope(|scope| {
        destinations.answer(scope, AT_ONCE);
        network.client.run(|| {
            let all = (0..AT_ONCE).flat_map(|_| 0..DESTINATIONS);
            let held: Vec<_> = all
                .map(|destination| {
                    let mut client = TcpStream::connect(virtual_address(destination)).unwrap();
                    assert_answered_by(&mut client, destination);
                    client
                })
                .collect();
            assert_eq!(held.len(), AT_ONCE * DESTINATIONS);
        });
    });
}

fn allow_many_files() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}
