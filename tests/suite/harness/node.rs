//! A node with pods, without containers: network namespaces and cgroups.
//!
//! A [`Pod`] is a pair of the two. Code runs in it on a thread of its own that enters
//! both, so a test reads `client.run(|| TcpStream::connect(…))`. Sockets belong to where
//! they were created: they may be handed out and used anywhere. Processes started inside
//! stay inside. No namespace has a route out.

use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{geteuid, gettid};
use tokio::time::Instant;
use transparent_proxy::datapath::cgroup::Mount;

/// Whether tests that load eBPF programs can run. Elsewhere than in CI they may not, and
/// then say so.
pub fn privileged() -> bool {
    if geteuid().is_root() && unshare_works() {
        return true;
    }
    let reason = "needs root with CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_BPF";
    assert!(
        std::env::var_os("CI").is_none_or(|ci| ci != "true"),
        "in CI this must run: it {reason}"
    );
    eprintln!("skipped: {reason}");
    false
}

fn unshare_works() -> bool {
    thread::scope(|scope| {
        scope
            .spawn(|| unshare(CloneFlags::CLONE_NEWNET).is_ok())
            .join()
            .unwrap()
    })
}

/// A network namespace, as long as somebody holds it.
#[derive(Debug, Clone)]
pub struct Namespace(Arc<File>);

impl Namespace {
    /// With nothing but a loopback interface.
    pub fn new() -> Self {
        let open = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("root may unshare");
            File::open("/proc/thread-self/ns/net").unwrap()
        };
        let file = thread::scope(|scope| scope.spawn(open).join().unwrap());
        let namespace = Self(Arc::new(file));
        namespace.ip("link set lo up");
        namespace
    }

    pub fn enter(&self) {
        setns(&*self.0, CloneFlags::CLONE_NEWNET).expect("root may enter");
    }

    fn run<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> T {
        let body = || {
            self.enter();
            inside()
        };
        thread::scope(|scope| join(scope.spawn(body)))
    }

    /// Runs `ip` inside.
    pub fn ip(&self, arguments: &str) {
        let output = self
            .run(|| Command::new("ip").args(arguments.split(' ')).output())
            .expect("iproute2 is installed");
        assert!(
            output.status.success(),
            "ip {arguments}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Adds an address to an interface, usable at once.
    pub fn address(&self, interface: &str, address: &str) {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        self.ip(&format!("addr add {address} dev {interface}{nodad}"));
    }

    /// A name for other processes, while somebody holds the namespace.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }

    /// A cable from here to another namespace; the interface has the name of the other side.
    pub fn cable(&self, name_here: &str, other: &Self, name_there: &str) {
        let there = other.path();
        self.ip(&format!(
            "link add {name_here} type veth peer name {name_there} netns {}",
            there.display()
        ));
        self.ip(&format!("link set {name_here} up"));
        other.ip(&format!("link set {name_there} up"));
    }

    /// Sets `net.<name>`.
    pub fn sysctl(&self, name: &str, value: &str) {
        let path = Path::new("/proc/sys/net").join(name.replace('.', "/"));
        self.run(|| fs::write(&path, value))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// A cgroup that single threads can be in; removed when dropped.
#[derive(Debug)]
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// Below the cgroup of this process.
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let own = Mount::find()
            .and_then(|mount| mount.own_cgroup())
            .expect("cgroup v2 is mounted");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self::create(own.join(format!("tproxy-test-{}-{number}", std::process::id())))
    }

    pub fn child(&self, name: &str) -> Self {
        Self::create(self.0.join(name))
    }

    fn create(path: PathBuf) -> Self {
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        fs::write(path.join("cgroup.type"), "threaded").expect("every cgroup may be threaded");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Runs `inside` in this cgroup and waits for it. Processes that it starts are in it, too.
    pub fn run<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> T {
        let body = || {
            self.enter();
            inside()
        };
        thread::scope(|scope| join(scope.spawn(body)))
    }

    /// Moves the calling thread.
    pub fn enter(&self) {
        fs::write(self.0.join("cgroup.threads"), gettid().to_string()).expect("root may move threads");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// A thread that was joined may still be on its way out of its cgroup.
fn remove(path: &Path) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while let Err(error) = fs::remove_dir(path) {
        if Instant::now() > deadline || error.raw_os_error() != Some(libc::EBUSY) {
            eprintln!("{} stays: {error}", path.display());
            return;
        }
        thread::yield_now();
    }
}

/// Where code runs: a network namespace and a cgroup.
#[derive(Debug, Clone)]
pub struct Pod {
    pub namespace: Namespace,
    pub cgroup: Arc<Cgroup>,
}

impl Pod {
    pub fn new(namespace: Namespace, cgroup: Cgroup) -> Self {
        Self {
            namespace,
            cgroup: Arc::new(cgroup),
        }
    }

    /// Runs `inside` in this pod and waits for it. Processes that it starts are in the pod, too.
    pub fn run<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| join(self.start(scope, inside)))
    }

    /// Starts `inside` in this pod.
    pub fn start<'scope, T: Send + 'scope>(
        &self,
        scope: &'scope thread::Scope<'scope, '_>,
        inside: impl FnOnce() -> T + Send + 'scope,
    ) -> thread::ScopedJoinHandle<'scope, T> {
        let pod = self.clone();
        scope.spawn(move || {
            pod.cgroup.enter();
            pod.namespace.enter();
            inside()
        })
    }

    /// Runs asynchronous code in this pod.
    pub fn block_on<T: Send>(&self, future: impl Future<Output = T> + Send) -> T {
        self.run(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(future)
        })
    }
}

/// Waits for a thread and passes its panic on.
pub fn join<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The smallest node: one namespace with only a loopback interface, on which the proxy
/// has an address of its own. A redirect that is missed cannot go anywhere.
pub fn lonely_node() -> Pod {
    let namespace = Namespace::new();
    namespace.address("lo", "10.244.0.1/32");
    namespace.address("lo", "fd00:244::1/128");
    Pod::new(namespace, Cgroup::new())
}

/// The proxy's addresses on every node.
pub const PROXY4: &str = "10.244.0.1";
pub const PROXY6: &str = "fd00:244::1";

/// A client, the node that the proxy runs on, and an upstream, joined by cables. The
/// client reaches the node alone, the node both.
pub struct Network {
    pub client: Pod,
    pub node: Pod,
    pub upstream: Pod,
    /// Above the client's and the node's, for the hook.
    pub cgroup: Cgroup,
}

impl Network {
    pub const CLIENT: &str = "10.244.0.2";
    pub const NODE_TOWARDS_UPSTREAM: &str = "10.245.0.1";
    pub const UPSTREAM: &str = "10.245.0.2";

    pub fn new() -> Self {
        let cgroup = Cgroup::new();
        let client = Pod::new(Namespace::new(), cgroup.child("client"));
        let node = Pod::new(Namespace::new(), cgroup.child("node"));
        let upstream = Pod::new(Namespace::new(), Cgroup::new());
        node.namespace.cable("client", &client.namespace, "node");
        node.namespace.cable("upstream", &upstream.namespace, "node");
        node.namespace.address("client", "10.244.0.1/24");
        node.namespace.address("client", "fd00:244::1/64");
        client.namespace.address("node", "10.244.0.2/24");
        client.namespace.address("node", "fd00:244::2/64");
        node.namespace.address("upstream", "10.245.0.1/24");
        node.namespace.address("upstream", "fd00:245::1/64");
        upstream.namespace.address("node", "10.245.0.2/24");
        upstream.namespace.address("node", "fd00:245::2/64");
        Self {
            client,
            node,
            upstream,
            cgroup,
        }
    }
}

/// Waits for what other threads do.
pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::yield_now();
    }
}

/// `ip:port`, either version.
pub fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse::<IpAddr>().expect("a literal"), port)
}
