//! Targets that are for the pods of one namespace, and what is told of refusals.

use std::io;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use transparent_proxy::datapath::{NamespaceNumber, Options, Refusal, Refusals, RefusedConnect, cgroup};

use super::{ANYBODY, Hooked, PATIENCE, VIRTUAL4, VIRTUAL6, errno};
use crate::harness::node::{self, PROXY4, PROXY6, Pod, at, join};

const OURS: NamespaceNumber = NamespaceNumber(1);
const THEIRS: NamespaceNumber = NamespaceNumber(2);

/// All ways to the same port.
const ADDRESSES: [&str; 3] = ["10.96.0.10:80", "[::ffff:10.96.0.10]:80", "[fd00:96::10]:80"];

/// A node whose destination is for one namespace, and three pods.
struct Scoped {
    ours: Pod,
    theirs: Pod,
    /// Nobody has told the hook of it.
    unknown: Pod,
    runtime: Runtime,
    refusals: Refusals,
    // Last, because its cgroup is above those of the pods.
    hooked: Hooked,
}

impl Scoped {
    fn new() -> Self {
        let mut hooked = Hooked::with(Options {
            origin_record: true,
            refusal_record: true,
            ..Options::default()
        });
        let pod = |name| Pod::new(hooked.node.namespace.clone(), hooked.node.cgroup.child(name));
        let (ours, theirs, unknown) = (pod("ours"), pod("theirs"), pod("unknown"));
        let callers = hooked.datapath.callers();
        callers.set(id(&ours), OURS).unwrap();
        callers.set(id(&theirs), THEIRS).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let refusals = {
            let _inside = runtime.enter();
            hooked.datapath.refusals().unwrap().expect("it was asked for")
        };
        let scoped = Self {
            ours,
            theirs,
            unknown,
            runtime,
            refusals,
            hooked,
        };
        scoped.serve(OURS);
        scoped
    }

    /// From now on the destination is for this namespace.
    fn serve(&self, namespace: NamespaceNumber) {
        let port = self.hooked.proxy.local_addr().unwrap().port();
        let virtual_ips = self.hooked.datapath.virtual_ips();
        for (virtual_ip, proxy) in [(VIRTUAL4, PROXY4), (VIRTUAL6, PROXY6)] {
            virtual_ips
                .insert(at(virtual_ip, 80), at(proxy, port), namespace)
                .unwrap();
        }
    }

    fn assert_redirected(&self, pod: &Pod) {
        for address in ADDRESSES {
            let client = connect(pod, address).unwrap_or_else(|error| panic!("{address}: {error}"));
            self.hooked.assert_arrives(client);
        }
    }

    fn next_refusal(&mut self) -> RefusedConnect {
        self.runtime
            .block_on(async { timeout(PATIENCE, self.refusals.next()).await })
            .expect("it is told of")
            .unwrap()
    }

    fn refused(&self) -> u64 {
        self.hooked.datapath.counters().read().unwrap().refused_scope
    }
}

fn id(pod: &Pod) -> u64 {
    cgroup::id(pod.cgroup.path()).unwrap()
}

fn connect(pod: &Pod, address: &str) -> io::Result<TcpStream> {
    pod.run(|| TcpStream::connect(address.parse::<SocketAddr>().unwrap()))
}

fn assert_refused(pod: &Pod) {
    for address in ADDRESSES {
        let error = connect(pod, address).unwrap_err();
        assert_eq!(errno(error), libc::ECONNREFUSED, "{address}");
    }
}

#[test]
fn a_caller_of_another_namespace_is_refused_at_once_and_told_of_once() {
    if !node::privileged() {
        return;
    }
    let mut scoped = Scoped::new();
    // The kernel's clock is another one, and read a moment before that of the day.
    let before = SystemTime::now() - Duration::from_millis(100);
    assert_refused(&scoped.theirs);
    assert_eq!(scoped.refused(), 3);
    for address in ADDRESSES {
        let address: SocketAddr = address.parse().unwrap();
        let refused = scoped.next_refusal();
        assert_eq!(
            refused.wanted,
            SocketAddr::new(address.ip().to_canonical(), address.port())
        );
        assert_eq!(
            (refused.cgroup, refused.reason),
            (id(&scoped.theirs), Refusal::Scope)
        );
        assert!(refused.at > before && refused.at <= SystemTime::now());
    }
    // What comes next is something else.
    connect(&scoped.ours, "10.96.0.10:81").unwrap_err();
    assert_eq!(scoped.next_refusal().reason, Refusal::Port);
}

#[test]
fn a_caller_of_the_same_namespace_and_an_unknown_one_are_redirected() {
    if !node::privileged() {
        return;
    }
    let scoped = Scoped::new();
    scoped.assert_redirected(&scoped.ours);
    scoped.assert_redirected(&scoped.unknown);
    assert_eq!(scoped.refused(), 0);
}

/// Containers, and the cgroups that they make.
#[test]
fn all_that_is_below_the_cgroup_of_a_pod_is_of_its_namespace() {
    if !node::privileged() {
        return;
    }
    let scoped = Scoped::new();
    let callers = scoped.hooked.datapath.callers();
    for pod in [&scoped.ours, &scoped.theirs, &scoped.unknown] {
        let container = pod.cgroup.child("container");
        let nested = Pod::new(pod.namespace.clone(), container.child("nested"));
        let check = || match callers.get(id(pod)) {
            Some(THEIRS) => assert_refused(&nested),
            _ => scoped.assert_redirected(&nested),
        };
        check();
        // As by a kubelet that runs in a container: its pods are the outer one's.
        if let Some(own) = callers.get(id(pod)) {
            let other = if own == OURS { THEIRS } else { OURS };
            callers.set(cgroup::id(container.path()).unwrap(), other).unwrap();
            check();
        }
    }
}

/// A pod may make more cgroups than user space looks at.
#[test]
fn who_calls_from_below_the_cgroup_of_a_pod_is_told_by_that() {
    if !node::privileged() {
        return;
    }
    let mut scoped = Scoped::new();
    let nested = |pod: &Pod| Pod::new(pod.namespace.clone(), pod.cgroup.child("container"));
    let [ours, theirs, unknown] = [&scoped.ours, &scoped.theirs, &scoped.unknown].map(nested);
    let origins = scoped.hooked.datapath.origins();
    for (caller, told) in [(&ours, id(&scoped.ours)), (&unknown, id(&unknown))] {
        for address in ADDRESSES {
            let _client = connect(caller, address).unwrap();
            let (accepted, _) = scoped.hooked.proxy.accept().unwrap();
            let origin = origins.of(&accepted).unwrap().expect("it was redirected");
            assert_eq!(origin.cgroup, told, "{address}");
        }
    }
    connect(&theirs, ADDRESSES[0]).unwrap_err();
    assert_eq!(scoped.next_refusal().cgroup, id(&scoped.theirs));
}

#[test]
fn what_is_for_everybody_is_for_callers_of_no_namespace_too() {
    if !node::privileged() {
        return;
    }
    let scoped = Scoped::new();
    let callers = scoped.hooked.datapath.callers();
    callers.set(id(&scoped.unknown), NamespaceNumber::NONE).unwrap();
    assert_refused(&scoped.unknown);
    scoped.serve(ANYBODY);
    for pod in [&scoped.ours, &scoped.theirs, &scoped.unknown] {
        scoped.assert_redirected(pod);
    }
}

#[test]
fn a_change_of_scope_is_for_the_next_connect() {
    if !node::privileged() {
        return;
    }
    let scoped = Scoped::new();
    let open = connect(&scoped.ours, ADDRESSES[0]).unwrap();
    scoped.serve(THEIRS);
    assert_refused(&scoped.ours);
    scoped.hooked.assert_arrives(open);
    scoped.assert_redirected(&scoped.theirs);
    scoped.serve(ANYBODY);
    scoped.assert_redirected(&scoped.ours);
    scoped.serve(OURS);
    scoped.assert_redirected(&scoped.ours);
    assert_refused(&scoped.theirs);
}

/// Whoever connects in that moment gets either the old answer or the new one.
#[test]
fn while_the_scope_changes_nobody_falls_through() {
    const CHANGES: usize = 2_000;
    if !node::privileged() {
        return;
    }
    let scoped = Scoped::new();
    let (done, connected) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let client = scoped.theirs.start(scope, || {
            let address: SocketAddr = ADDRESSES[0].parse().unwrap();
            while !done.load(Ordering::Relaxed) {
                match TcpStream::connect(address) {
                    Ok(client) => assert_eq!(client.peer_addr().unwrap(), address),
                    Err(error) => assert_eq!(errno(error), libc::ECONNREFUSED),
                }
                connected.fetch_add(1, Ordering::Relaxed);
            }
        });
        let server = scope.spawn(|| {
            let proxy = &scoped.hooked.proxy;
            while !done.load(Ordering::Relaxed) {
                drop(proxy.accept());
            }
        });
        for change in 0..CHANGES {
            scoped.serve([OURS, THEIRS, ANYBODY][change % 3]);
        }
        node::wait_until("it has connected often", || {
            connected.load(Ordering::Relaxed) > 100
        });
        done.store(true, Ordering::Relaxed);
        join(client);
        // Wakes the server.
        scoped.serve(ANYBODY);
        drop(connect(&scoped.ours, ADDRESSES[0]));
        join(server);
    });
}

#[test]
fn who_is_who_can_change() {
    if !node::privileged() {
        return;
    }
    let scoped = Scoped::new();
    let callers = scoped.hooked.datapath.callers();
    let clone = callers.clone();
    clone.set(id(&scoped.theirs), OURS).unwrap();
    scoped.assert_redirected(&scoped.theirs);
    clone.set(id(&scoped.theirs), THEIRS).unwrap();
    assert_refused(&scoped.theirs);
    assert_eq!(callers.get(id(&scoped.theirs)), Some(THEIRS));

    callers.remove(id(&scoped.theirs)).unwrap();
    callers.remove(id(&scoped.theirs)).unwrap();
    scoped.assert_redirected(&scoped.theirs);

    callers.set(id(&scoped.theirs), THEIRS).unwrap();
    callers.set(id(&scoped.unknown), THEIRS).unwrap();
    let removed = callers.retain(|cgroup, namespace| {
        assert_eq!(namespace, if cgroup == id(&scoped.ours) { OURS } else { THEIRS });
        cgroup != id(&scoped.theirs)
    });
    assert_eq!((removed.unwrap(), callers.len()), (1, 2));
    scoped.assert_redirected(&scoped.theirs);
    assert_refused(&scoped.unknown);
}

#[test]
fn foreign_connects_do_not_ask_who_calls() {
    if !node::privileged() {
        return;
    }
    let scoped = Scoped::new();
    let port = scoped.hooked.proxy.local_addr().unwrap().port();
    for address in [at("127.0.0.1", port), at("::1", port), at(PROXY4, port)] {
        let client = scoped.theirs.run(|| TcpStream::connect(address)).unwrap();
        assert_eq!(client.peer_addr().unwrap(), address);
        scoped.hooked.assert_arrives(client);
    }
    let counted = scoped.hooked.datapath.counters().read().unwrap();
    assert_eq!(
        (counted.seen, counted.redirected, counted.refused_scope),
        (3, 0, 0)
    );
}

#[test]
fn refused_ports_and_udp_are_told_of_too() {
    if !node::privileged() {
        return;
    }
    let mut scoped = Scoped::new();
    let unknown = id(&scoped.unknown);
    connect(&scoped.unknown, "[fd00:96::10]:443").unwrap_err();
    let refused = scoped.next_refusal();
    assert_eq!(
        (refused.cgroup, refused.wanted, refused.reason),
        (unknown, at(VIRTUAL6, 443), Refusal::Port)
    );
    scoped
        .unknown
        .run(|| UdpSocket::bind("0.0.0.0:0")?.connect(at(VIRTUAL4, 53)))
        .unwrap_err();
    let refused = scoped.next_refusal();
    assert_eq!(
        (refused.cgroup, refused.wanted, refused.reason),
        (unknown, at(VIRTUAL4, 53), Refusal::Udp)
    );
}

#[test]
fn whoever_waits_for_a_refusal_is_woken_each_time() {
    const TIMES: usize = 200;
    if !node::privileged() {
        return;
    }
    let mut scoped = Scoped::new();
    let told = AtomicUsize::new(0);
    thread::scope(|scope| {
        let client = scoped.theirs.start(scope, || {
            let address: SocketAddr = ADDRESSES[0].parse().unwrap();
            for time in 0..TIMES {
                TcpStream::connect(address).unwrap_err();
                node::wait_until("it is told of", || told.load(Ordering::Relaxed) > time);
            }
        });
        for _ in 0..TIMES {
            let next = async { timeout(PATIENCE, scoped.refusals.next()).await };
            scoped.runtime.block_on(next).expect("it is woken").unwrap();
            told.fetch_add(1, Ordering::Relaxed);
        }
        join(client);
    });
}

const THIS_THREAD: Pid = Pid::from_raw(0);

/// The processors that this process may use.
fn processors() -> Vec<CpuSet> {
    let allowed = sched_getaffinity(THIS_THREAD).unwrap();
    let processors = (0..CpuSet::count()).filter(|processor| allowed.is_set(*processor).unwrap());
    let one = |processor| {
        let mut one = CpuSet::new();
        one.set(processor).unwrap();
        one
    };
    processors.map(one).collect()
}

/// Nobody reads meanwhile, so most of them are not told of. Each client has a processor of its own:
/// counting is not atomic, see the eBPF program, so one that interrupts another may lose a count.
#[test]
fn ten_thousand_refusals_lose_no_verdict() {
    const CLIENTS: usize = 4;
    const ALL: usize = 10_000;
    if !node::privileged() {
        return;
    }
    let mut scoped = Scoped::new();
    let mut processors = processors();
    processors.truncate(CLIENTS);
    let each = ALL / processors.len();
    let all = u64::try_from(each * processors.len()).unwrap();
    thread::scope(|scope| {
        let refuse = move |processor: &CpuSet| {
            sched_setaffinity(THIS_THREAD, processor).unwrap();
            for number in 0..each {
                let address: SocketAddr = ADDRESSES[number % ADDRESSES.len()].parse().unwrap();
                let error = TcpStream::connect(address).unwrap_err();
                assert_eq!(errno(error), libc::ECONNREFUSED);
            }
        };
        let start = |processor| scoped.theirs.start(scope, move || refuse(processor));
        let clients: Vec<_> = processors.iter().map(start).collect();
        clients.into_iter().for_each(join);
    });
    let counted = scoped.hooked.datapath.counters().read().unwrap();
    assert_eq!((counted.refused_scope, counted.redirected), (all, 0));
    let mut told = 0;
    let mut buffered = async || timeout(Duration::ZERO, scoped.refusals.next()).await.is_ok();
    while scoped.runtime.block_on(buffered()) {
        told += 1;
    }
    assert!(told > 1_000, "as many as fit: {told}");
    assert_eq!(told + counted.reports_lost, all);
    // Room again.
    connect(&scoped.theirs, ADDRESSES[0]).unwrap_err();
    assert_eq!(scoped.next_refusal().reason, Refusal::Scope);
}

#[test]
fn refusals_can_be_taken_once_by_whoever_asked_for_them() {
    if !node::privileged() {
        return;
    }
    let mut scoped = Scoped::new();
    let _inside = scoped.runtime.enter();
    assert!(scoped.hooked.datapath.refusals().unwrap().is_none());
    let mut silent = Hooked::new();
    assert!(silent.datapath.refusals().unwrap().is_none());
    silent.connect(at(VIRTUAL4, 81)).unwrap_err();
    let counted = silent.datapath.counters().read().unwrap();
    assert_eq!((counted.refused_port, counted.reports_lost), (1, 0));
}
