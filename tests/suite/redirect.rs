//! The kernel side: who is redirected, what applications see, what others notice.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use transparent_proxy::datapath::{Datapath, Error, NamespaceNumber, Options, Origins};

use crate::harness::node::{self, Network, PROXY4, PROXY6, Pod, at, lonely_node};

mod foreign;
mod kernel;
mod load;
mod origin;
mod pods;
mod scope;

/// Nothing here takes longer than milliseconds; this is for machines under load.
const PATIENCE: Duration = Duration::from_secs(20);

/// The namespace of a target that is for everybody.
const ANYBODY: NamespaceNumber = NamespaceNumber::NONE;

const VIRTUAL4: &str = "10.96.0.10";
const VIRTUAL6: &str = "fd00:96::10";

/// Without the kernel log, whatever the machine's defaults.
fn load(origin_record: bool) -> Datapath {
    Datapath::load(&Options {
        origin_record,
        ..Options::default()
    })
    .unwrap_or_else(|error| panic!("{error:?}"))
}

/// A dual-stack listener on all addresses of the pod.
fn listen(pod: &Pod) -> TcpListener {
    pod.run(|| {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
        socket.set_only_v6(false).unwrap();
        socket
            .bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into())
            .unwrap();
        socket.listen(4096).unwrap();
        // Also for `accept`.
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.into()
    })
}

/// A node whose hook leads port 80 of both virtual IPs to `proxy`.
struct Hooked {
    node: Pod,
    proxy: TcpListener,
    datapath: Datapath,
}

impl Hooked {
    fn new() -> Self {
        Self::with(Options::default())
    }

    fn with(options: Options) -> Self {
        let node = lonely_node();
        let proxy = listen(&node);
        let port = proxy.local_addr().unwrap().port();
        let mut datapath = Datapath::load(&options).unwrap_or_else(|error| panic!("{error:?}"));
        let virtual_ips = datapath.virtual_ips();
        virtual_ips
            .insert(at(VIRTUAL4, 80), at(PROXY4, port), ANYBODY)
            .unwrap();
        virtual_ips
            .insert(at(VIRTUAL6, 80), at(PROXY6, port), ANYBODY)
            .unwrap();
        datapath.attach(node.cgroup.path()).unwrap();
        Self {
            node,
            proxy,
            datapath,
        }
    }

    fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        self.node.run(|| TcpStream::connect(address))
    }

    /// Whether the two are ends of the same connection.
    fn assert_arrives(&self, mut client: TcpStream) {
        let (mut accepted, _) = self.proxy.accept().unwrap();
        accepted.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(b"hello").unwrap();
        let mut said = [0; 5];
        accepted.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"hello");
    }
}

/// By value, for `errno(attempt.unwrap_err())`.
#[expect(clippy::needless_pass_by_value, reason = "reads better where it is called")]
fn errno(error: io::Error) -> i32 {
    error
        .raw_os_error()
        .unwrap_or_else(|| panic!("{error} does not come from the system"))
}

#[test]
fn ipv4_is_redirected_and_the_peer_is_the_virtual_ip() {
    if !node::privileged() {
        return;
    }
    let hooked = Hooked::new();
    let client = hooked.connect(at(VIRTUAL4, 80)).unwrap();
    assert_eq!(client.peer_addr().unwrap(), at(VIRTUAL4, 80));
    hooked.assert_arrives(client);
}

#[test]
fn ipv6_is_redirected_and_the_peer_is_the_virtual_ip() {
    if !node::privileged() {
        return;
    }
    let hooked = Hooked::new();
    let client = hooked.connect(at(VIRTUAL6, 80)).unwrap();
    assert_eq!(client.peer_addr().unwrap(), at(VIRTUAL6, 80));
    hooked.assert_arrives(client);
}

/// Java connects like this by default. <https://github.com/cilium/cilium/issues/9923>
#[test]
fn a_mapped_address_on_an_ipv6_socket_is_redirected() {
    if !node::privileged() {
        return;
    }
    let hooked = Hooked::new();
    let mapped = at("::ffff:10.96.0.10", 80);
    let client = hooked.connect(mapped).unwrap();
    assert_eq!(client.peer_addr().unwrap(), mapped);
    hooked.assert_arrives(client);
}

/// Go listens like this by default since 1.24, and connects with `GODEBUG=multipathtcp=1`.
///
/// Unlike for other sockets, `getpeername` shows the proxy instead of the virtual IP: the
/// kernel asks our hook about the MPTCP socket, while connect was about the TCP socket
/// below it, where the record is.
#[test]
fn a_multipath_socket_is_redirected() {
    if !node::privileged() {
        return;
    }
    let hooked = Hooked::new();
    for (domain, address) in [(Domain::IPV4, at(VIRTUAL4, 80)), (Domain::IPV6, at(VIRTUAL6, 80))] {
        let socket = hooked
            .node
            .run(|| Socket::new(domain, Type::STREAM, Some(Protocol::MPTCP)));
        let socket = match socket {
            Ok(socket) => socket,
            Err(error) => {
                let without = [libc::EPROTONOSUPPORT, libc::ENOPROTOOPT];
                assert!(without.contains(&errno(error)), "{domain:?}");
                eprintln!("this kernel has no MPTCP");
                return;
            }
        };
        socket.connect(&address.into()).unwrap();
        let client = TcpStream::from(socket);
        hooked.assert_arrives(client);
    }
}

#[test]
fn a_non_blocking_connect_is_redirected() {
    if !node::privileged() {
        return;
    }
    let hooked = Hooked::new();
    let client = hooked
        .node
        .block_on(async { tokio::net::TcpStream::connect(at(VIRTUAL4, 80)).await?.into_std() });
    let client = client.unwrap();
    client.set_nonblocking(false).unwrap();
    assert_eq!(client.peer_addr().unwrap(), at(VIRTUAL4, 80));
    hooked.assert_arrives(client);
}

#[test]
fn a_non_blocking_connect_to_an_unserved_port_fails_at_once() {
    if !node::privileged() {
        return;
    }
    let hooked = Hooked::new();
    let socket = hooked
        .node
        .run(|| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap());
    socket.set_nonblocking(true).unwrap();
    let error = socket.connect(&at(VIRTUAL4, 81).into()).unwrap_err();
    assert_eq!(errno(error), libc::ECONNREFUSED, "not EINPROGRESS");
}

#[test]
fn another_port_of_a_virtual_ip_is_refused_and_counted() {
    if !node::privileged() {
        return;
    }
    let hooked = Hooked::new();
    for address in [at(VIRTUAL4, 81), at(VIRTUAL6, 443), at("::ffff:10.96.0.10", 8080)] {
        assert_eq!(
            errno(hooked.connect(address).unwrap_err()),
            libc::ECONNREFUSED,
            "{address}"
        );
    }
    assert_eq!(hooked.datapath.counters().read().unwrap().refused_port, 3);
}

/// Before Linux 5.18 a program cannot choose the error.
#[test]
fn on_old_kernels_a_refusal_is_eperm() {
    if !node::privileged() {
        return;
    }
    let hooked = Hooked::with(Options {
        refuse_with_eperm: true,
        ..Options::default()
    });
    assert_eq!(errno(hooked.connect(at(VIRTUAL4, 81)).unwrap_err()), libc::EPERM);
    assert_eq!(errno(hooked.connect(at(VIRTUAL6, 81)).unwrap_err()), libc::EPERM);
    hooked.assert_arrives(hooked.connect(at(VIRTUAL4, 80)).unwrap());
}

/// Passed on, the packets would leave by the default route.
#[test]
fn connected_udp_to_a_virtual_ip_is_refused_and_counted() {
    if !node::privileged() {
        return;
    }
    let hooked = Hooked::new();
    for (local, address) in [("0.0.0.0", at(VIRTUAL4, 80)), ("::", at(VIRTUAL6, 53))] {
        let connected = hooked
            .node
            .run(|| UdpSocket::bind(at(local, 0))?.connect(address));
        assert_eq!(errno(connected.unwrap_err()), libc::ECONNREFUSED, "{address}");
    }
    assert_eq!(hooked.datapath.counters().read().unwrap().refused_udp, 2);
}

#[test]
fn foreign_addresses_pass_untouched() {
    if !node::privileged() {
        return;
    }
    let hooked = Hooked::new();
    let port = hooked.proxy.local_addr().unwrap().port();
    for address in [at("127.0.0.1", port), at("::1", port), at(PROXY4, port)] {
        let client = hooked.connect(address).unwrap();
        assert_eq!(client.peer_addr().unwrap(), address);
        hooked.assert_arrives(client);
    }
    let elsewhere = hooked.connect(at("192.0.2.1", 80)).unwrap_err();
    assert_eq!(errno(elsewhere), libc::ENETUNREACH, "the kernel's own answer");
    let counted = hooked.datapath.counters().read().unwrap();
    assert_eq!((counted.seen, counted.redirected), (4, 0));
}

#[test]
fn a_process_outside_of_the_cgroup_is_not_redirected() {
    if !node::privileged() {
        return;
    }
    let hooked = Hooked::new();
    let outside = Pod::new(hooked.node.namespace.clone(), node::Cgroup::new());
    let error = outside.run(|| TcpStream::connect(at(VIRTUAL4, 80))).unwrap_err();
    assert_eq!(errno(error), libc::ENETUNREACH);
}

#[test]
fn an_exempt_socket_passes_untouched() {
    if !node::privileged() {
        return;
    }
    let hooked = Hooked::new();
    let exempt = hooked.datapath.exempt();
    let connect = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        exempt.socket(&socket)?;
        socket.connect(&at(VIRTUAL4, 80).into())
    };
    assert_eq!(errno(hooked.node.run(connect).unwrap_err()), libc::ENETUNREACH);
    assert_eq!(hooked.datapath.counters().read().unwrap().exempt, 1);
}

#[test]
fn a_removed_virtual_ip_is_foreign_again() {
    if !node::privileged() {
        return;
    }
    let hooked = Hooked::new();
    let port = hooked.proxy.local_addr().unwrap().port();
    let virtual_ips = hooked.datapath.virtual_ips();
    virtual_ips
        .insert(at(VIRTUAL4, 8080), at(PROXY4, port), ANYBODY)
        .unwrap();
    virtual_ips.remove(at(VIRTUAL4, 80)).unwrap();
    assert_eq!(
        errno(hooked.connect(at(VIRTUAL4, 80)).unwrap_err()),
        libc::ECONNREFUSED,
        "one port is left"
    );
    hooked.assert_arrives(hooked.connect(at(VIRTUAL4, 8080)).unwrap());
    virtual_ips.remove(at(VIRTUAL4, 8080)).unwrap();
    assert_eq!(
        errno(hooked.connect(at(VIRTUAL4, 80)).unwrap_err()),
        libc::ENETUNREACH,
        "none is left"
    );
}

/// Destinations come and go, and addresses are given to others.
#[test]
fn a_virtual_ip_that_leads_elsewhere_by_now_stays() {
    if !node::privileged() {
        return;
    }
    let hooked = Hooked::new();
    let port = hooked.proxy.local_addr().unwrap().port();
    let virtual_ips = hooked.datapath.virtual_ips();
    virtual_ips
        .remove_if_to(at(VIRTUAL4, 80), at(PROXY4, port + 1))
        .unwrap();
    hooked.assert_arrives(hooked.connect(at(VIRTUAL4, 80)).unwrap());
    virtual_ips
        .remove_if_to(at(VIRTUAL4, 80), at(PROXY4, port))
        .unwrap();
    assert_eq!(virtual_ips.target(at(VIRTUAL4, 80)).unwrap(), None);
    virtual_ips
        .remove_if_to(at(VIRTUAL4, 80), at(PROXY4, port))
        .unwrap();
}

/// As many as there are target ports, each with an address of both IP versions.
#[test]
fn all_destinations_of_two_families_have_room_and_what_has_none_leaves_nothing_behind() {
    if !node::privileged() {
        return;
    }
    let hooked = Hooked::new();
    let virtual_ips = hooked.datapath.virtual_ips();
    let numbered = |number: u32| -> IpAddr {
        let [_, a, b, c] = number.to_be_bytes();
        Ipv4Addr::new(10, a, b, c).into()
    };
    let insert =
        |number: u32| virtual_ips.insert(SocketAddr::new(numbered(number), 80), at(PROXY4, 10_000), ANYBODY);
    for number in 0..40_000 {
        insert(number).unwrap();
    }
    let full = (40_000..70_000)
        .find(|number| insert(*number).is_err())
        .expect("a table has an end");
    let address = SocketAddr::new(numbered(full), 80);
    assert_eq!(virtual_ips.target(address).unwrap(), None);
    assert!(!virtual_ips.contains(address.ip()));
    virtual_ips.remove(SocketAddr::new(numbered(0), 80)).unwrap();
    insert(full).unwrap();
    assert!(virtual_ips.target(address).unwrap().is_some());
}

#[test]
fn after_detaching_nothing_is_redirected() {
    if !node::privileged() {
        return;
    }
    let mut hooked = Hooked::new();
    hooked.datapath.stop_redirecting();
    assert_eq!(
        errno(hooked.connect(at(VIRTUAL4, 80)).unwrap_err()),
        libc::ENETUNREACH
    );
    hooked.datapath.attach(hooked.node.cgroup.path()).unwrap();
    hooked.assert_arrives(hooked.connect(at(VIRTUAL4, 80)).unwrap());
    hooked.datapath.detach();
    assert_eq!(
        errno(hooked.connect(at(VIRTUAL4, 80)).unwrap_err()),
        libc::ENETUNREACH
    );
}

/// The client is in another network namespace than the proxy.
#[test]
fn a_pod_reaches_the_proxy_of_its_node() {
    if !node::privileged() {
        return;
    }
    let network = Network::new();
    let proxy = listen(&network.node);
    let port = proxy.local_addr().unwrap().port();
    let mut datapath = load(true);
    datapath
        .virtual_ips()
        .insert(at(VIRTUAL4, 80), at(PROXY4, port), ANYBODY)
        .unwrap();
    datapath.attach(network.cgroup.path()).unwrap();
    let client = network
        .client
        .run(|| TcpStream::connect(at(VIRTUAL4, 80)))
        .unwrap();
    assert_eq!(client.peer_addr().unwrap(), at(VIRTUAL4, 80));
    let (accepted, from) = proxy.accept().unwrap();
    assert_eq!(
        from.ip().to_canonical(),
        at(Network::CLIENT, 0).ip(),
        "no address translation"
    );
    let caller = datapath
        .origins()
        .of(&accepted)
        .unwrap()
        .expect("it was redirected");
    assert_eq!(caller.wanted, at(VIRTUAL4, 80));
    assert_eq!(
        caller.cgroup,
        transparent_proxy::datapath::cgroup::id(network.client.cgroup.path()).unwrap()
    );
}

/// The hook changes nothing about who reaches whom.
#[test]
fn only_the_node_reaches_the_upstream() {
    if !node::privileged() {
        return;
    }
    let network = Network::new();
    let upstream = listen(&network.upstream);
    let address = at(Network::UPSTREAM, upstream.local_addr().unwrap().port());
    let mut datapath = load(false);
    datapath.attach(network.cgroup.path()).unwrap();
    let unreachable = network.client.run(|| TcpStream::connect(address)).unwrap_err();
    assert_eq!(errno(unreachable), libc::ENETUNREACH);
    let from = network
        .node
        .run(|| TcpStream::connect(address))
        .unwrap()
        .local_addr()
        .unwrap();
    assert_eq!(from.ip(), at(Network::NODE_TOWARDS_UPSTREAM, 0).ip());
}

/// Two processes side by side, as in an upgrade: the new one attaches with a listener of
/// its own before the old one stops. Nobody is refused, nobody leaves the machine.
#[test]
fn a_successor_takes_over_without_a_gap() {
    const ROUNDS: usize = 5;
    if !node::privileged() {
        return;
    }
    let node = lonely_node();
    let start = || {
        let listener = listen(&node);
        let mut datapath = load(true);
        datapath
            .virtual_ips()
            .insert(
                at(VIRTUAL4, 80),
                at(PROXY4, listener.local_addr().unwrap().port()),
                ANYBODY,
            )
            .unwrap();
        datapath.attach(node.cgroup.path()).unwrap();
        (listener, datapath)
    };
    let done = AtomicBool::new(false);
    let connected = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let connect_until_done = &|connected: &AtomicUsize| {
        while !done.load(Ordering::Relaxed) {
            TcpStream::connect(at(VIRTUAL4, 80)).unwrap();
            connected.fetch_add(1, Ordering::Relaxed);
        }
    };
    let all_connect_once_more = || {
        for client in &connected {
            let before = client.load(Ordering::Relaxed);
            node::wait_until("a client connects", || client.load(Ordering::Relaxed) > before);
        }
    };
    thread::scope(|scope| {
        let start_serving = || {
            let (listener, datapath) = start();
            let (address, origins) = (listener.local_addr().unwrap(), datapath.origins());
            (
                address,
                datapath,
                scope.spawn(move || serve_until_a_direct_connection(&listener, &origins)),
            )
        };
        let stop = |address: SocketAddr, server: thread::ScopedJoinHandle<'_, SocketAddr>| {
            let last = node
                .run(|| TcpStream::connect(at(PROXY4, address.port())))
                .unwrap();
            assert_eq!(
                node::join(server).port(),
                last.local_addr().unwrap().port(),
                "all others have an origin"
            );
        };
        let mut serving = start_serving();
        let clients = connected
            .each_ref()
            .map(|count| node.start(scope, move || connect_until_done(count)));
        for _ in 0..ROUNDS {
            let successor = start_serving();
            let (address, mut datapath, server) = std::mem::replace(&mut serving, successor);
            datapath.stop_redirecting();
            all_connect_once_more(); // so nobody is on the way to the old listener any more
            stop(address, server);
            assert_eq!(datapath.origins().handshakes(), 0);
        }
        all_connect_once_more();
        done.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(node::join);
        stop(serving.0, serving.2);
    });
}

/// Returns who came without having been redirected.
fn serve_until_a_direct_connection(listener: &TcpListener, origins: &Origins) -> SocketAddr {
    loop {
        let (accepted, from) = listener.accept().unwrap();
        if origins.of(&accepted).unwrap().is_none() {
            return from;
        }
    }
}

#[test]
fn a_path_that_is_no_cgroup_of_version_2_is_named() {
    if !node::privileged() {
        return;
    }
    let mut datapath = load(false);
    let directory = tempfile::tempdir().unwrap();
    let error = datapath.attach(directory.path()).unwrap_err();
    assert!(matches!(error, Error::NotCgroup2 { .. }), "{error:?}");
    let error = datapath.attach(&directory.path().join("gone")).unwrap_err();
    assert!(matches!(error, Error::CgroupNotFound { .. }), "{error:?}");
}
