//! Pods by their cgroups, with real ones, as a kubelet lays them out.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::timeout;
use transparent_proxy::datapath::cgroup::{self, Mount, OwnCgroup, holds_this_process};
use transparent_proxy::datapath::foreign::Mode;
use transparent_proxy::datapath::foreign::testing::RefuseEverything;
use transparent_proxy::datapath::pods::{PodCgroups, PodUid, PodsByCgroup, attach_point};
use transparent_proxy::datapath::self_test::SelfTest;
use transparent_proxy::datapath::{Callers, Error, NamespaceNumber};

use super::kernel::{IN_CHILD, assert_child_succeeds};
use super::{PATIENCE, errno, listen, load};
use crate::harness::binary;
use crate::harness::node::{self, Cgroup, Namespace, PROXY4, Pod, at};

const OURS: &str = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
/// The agent is a pod, too: the program that hands origins over must be where it accepts.
const AGENT: &str = "7d1f0b6f8e2c4a5b9c3d2e1f0a9b8c7d";
const THEIRS: &str = "11111111-2222-3333-4444-555555555555";

/// Says of each pod that is found which namespace it is of.
async fn name_callers(mut pods: watch::Receiver<Arc<PodsByCgroup>>, callers: &Callers) {
    while pods.changed().await.is_ok() {
        let known = pods.borrow_and_update().clone();
        for (&cgroup, pod) in &*known {
            callers.set(cgroup, namespace_of(pod)).unwrap();
        }
        callers.retain(|cgroup, _| known.contains_key(&cgroup)).unwrap();
    }
}

fn namespace_of(pod: &PodUid) -> NamespaceNumber {
    NamespaceNumber(if pod.as_str() == OURS { 1 } else { 2 })
}

/// From the tree of the node to the refusal, as in an agent.
#[test]
fn a_container_is_known_to_the_hook_from_its_first_moment() {
    if !node::privileged() {
        return;
    }
    let namespace = Namespace::new();
    namespace.address("lo", "10.244.0.1/32");
    let tree = Cgroup::new();
    let kubepods = tree.child("kubepods");
    let burstable = kubepods.child("burstable");
    let agent = Pod::new(namespace.clone(), kubepods.child(&format!("pod{AGENT}")));
    let proxy = listen(&agent);

    let point = attach_point(tree.path()).unwrap();
    assert_eq!((point.path.as_path(), point.is_kubepods), (kubepods.path(), true));
    let mut datapath = load(true);
    datapath.attach(&point.path).unwrap();
    let address = at("10.96.0.10", 80);
    datapath
        .virtual_ips()
        .insert(
            address,
            at(PROXY4, proxy.local_addr().unwrap().port()),
            NamespaceNumber(1),
        )
        .unwrap();

    let pods = PodCgroups::new(&point.path);
    let callers = datapath.callers();
    let steps = async {
        let mut changes = pods.outermost();
        let mut known = async |id| {
            let told = changes.wait_for(|pods: &Arc<PodsByCgroup>| pods.contains_key(&id));
            timeout(PATIENCE, told).await.expect("it is told of").unwrap();
            while callers.get(id).is_none() {
                tokio::task::yield_now().await;
            }
        };
        for uid in [OURS, THEIRS] {
            let pod_cgroup = burstable.child(&format!("pod{uid}"));
            known(cgroup::id(pod_cgroup.path()).unwrap()).await;
            // Nobody can have told of it before it connects.
            let container = Pod::new(namespace.clone(), pod_cgroup.child("4f2e"));
            let connected = container.run(|| TcpStream::connect(address));
            if uid == OURS {
                drop(connected.unwrap());
                let (accepted, _) = proxy.accept().unwrap();
                let caller = datapath.origins().of(&accepted).unwrap().unwrap();
                assert_eq!(pods.find(caller.cgroup).await, Some(OURS.into()));
            } else {
                assert_eq!(errno(connected.unwrap_err()), libc::ECONNREFUSED);
            }
        }
    };
    agent.block_on(async {
        tokio::select! {
            () = pods.follow() => unreachable!("it never ends"),
            () = name_callers(pods.outermost(), &callers) => unreachable!("nor does this"),
            () = steps => {}
        }
    });
}

/// Whom the hook did not know, because it was quicker than the news of it.
#[test]
fn a_caller_is_identified_by_its_origin() {
    if !node::privileged() {
        return;
    }
    let tree = Cgroup::new();
    let kubepods = tree.child("kubepods");
    let pods = PodCgroups::new(kubepods.path());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let pod = kubepods.child(&format!("pod{OURS}"));
    let container = pod.child("4f2e");
    let nested = container.child("nested");
    for cgroup in [&nested, &container, &pod] {
        let id = cgroup::id(cgroup.path()).unwrap();
        assert_eq!(runtime.block_on(pods.find(id)), Some(OURS.into()));
    }
    let outside = cgroup::id(tree.path()).unwrap();
    assert_eq!(runtime.block_on(pods.find(outside)), None);
}

/// A cgroup that processes can be in.
fn domain(parent: &Path, name: &str) -> PathBuf {
    let path = parent.join(name);
    fs::create_dir(&path).unwrap();
    path
}

/// What a container of the agent has: a user that is not root, two capabilities, version 1
/// alone at /sys/fs/cgroup, and the node's tree in another place that cannot be written.
struct Container {
    tree: OwnCgroup,
    cgroup: PathBuf,
    mounted: TempDir,
}

impl Container {
    fn new(name: &str) -> Self {
        let own = Mount::find().unwrap().own_cgroup().unwrap();
        let tree = OwnCgroup::create(&own, &format!("test-{name}-{}", std::process::id())).unwrap();
        let pod = domain(&domain(tree.path(), "kubepods"), &format!("pod{OURS}"));
        Self {
            cgroup: domain(&pod, "4f2e"),
            tree,
            mounted: tempfile::tempdir().unwrap(),
        }
    }

    /// Runs another test of this file in it.
    fn run(&self, test: &str) {
        const ENTER: &str = "echo $$ > \"$1/cgroup.procs\"
            mount --bind \"$0\" \"$2\"
            mount -o remount,bind,ro \"$2\"
            mount -t tmpfs none /sys/fs/cgroup
            shift 2
            exec setpriv --reuid=65532 --regid=65532 --clear-groups --bounding-set=-all,+bpf,+net_admin \
                --inh-caps=-all,+bpf,+net_admin --ambient-caps=-all,+bpf,+net_admin \"$@\"";
        let mut confined = Command::new("unshare");
        confined
            .args(["--mount", "sh", "-ec", ENTER])
            .args([self.tree.path(), &self.cgroup, self.mounted.path()])
            .env(ROOT, self.mounted.path());
        assert_child_succeeds(&mut confined, &format!("pods::{test}"));
    }
}

/// Tells the tests that run in a [`Container`] where the node's tree is mounted.
const ROOT: &str = "TRANSPARENT_PROXY_TEST_CGROUP_ROOT";

fn mounted_tree() -> Option<PathBuf> {
    std::env::var_os(IN_CHILD)
        .and(std::env::var_os(ROOT))
        .map(PathBuf::from)
}

#[test]
fn an_agent_in_a_pod_attaches_and_proves_itself() {
    if !node::privileged() {
        return;
    }
    Container::new("proves").run("the_agent_attaches_and_proves_itself");
}

/// Run by the test above.
#[test]
fn the_agent_attaches_and_proves_itself() {
    let Some(root) = mounted_tree() else { return };
    let point = attach_point(&root).unwrap();
    assert_eq!(point.path, root.join("kubepods"));
    assert!(holds_this_process(&point.path), "it is hooked by birth");
    let mut datapath = load(true);
    datapath.attach(&point.path).unwrap();
    let test = SelfTest::new(&datapath, None).with_program(binary::path());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test.run_once()).unwrap();
    datapath.detach();
    runtime.block_on(test.run_once()).unwrap_err();

    let own = cgroup::id(&point.path.join(format!("pod{OURS}/4f2e"))).unwrap();
    let pods = PodCgroups::new(&point.path);
    assert_eq!(runtime.block_on(pods.find(own)), Some(OURS.into()));
}

#[test]
fn an_agent_in_a_pod_notices_an_exclusive_program_above_the_pods() {
    if !node::privileged() {
        return;
    }
    let container = Container::new("exclusive");
    let _foreign = RefuseEverything::attach(container.tree.path(), Mode::Exclusive).unwrap();
    container.run("the_agent_notices_an_exclusive_program");
}

/// Run by the test above.
#[test]
fn the_agent_notices_an_exclusive_program() {
    let Some(root) = mounted_tree() else { return };
    let point = attach_point(&root).unwrap();
    let error = load(true).attach(&point.path).unwrap_err();
    assert!(
        matches!(&error, Error::Exclusive { cgroup, hook: "connect4", .. } if *cgroup == root),
        "{error:?}"
    );
}
