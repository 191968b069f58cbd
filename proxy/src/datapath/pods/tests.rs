use std::fs;
use std::os::unix::fs::MetadataExt;

use tempfile::TempDir;
use tokio::time::{advance, timeout};

use super::search::point_in;
use super::*;

const UIDS: [&str; 3] = [
    "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9",
    "11111111-2222-3333-4444-555555555555",
    "7d1f0b6f8e2c4a5b9c3d2e1f0a9b8c7d",
];

/// For machines under load.
const PATIENCE: Duration = Duration::from_secs(20);

/// What looks like a tree of cgroups from outside.
struct Tree(TempDir);

impl Tree {
    fn new(directories: &[&str]) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for directory in directories {
            tree.make(directory);
        }
        tree
    }

    fn path(&self, below: &str) -> PathBuf {
        self.0.path().join(below)
    }

    /// Returns the id.
    fn make(&self, below: &str) -> u64 {
        fs::create_dir_all(self.path(below)).unwrap();
        self.id(below)
    }

    fn id(&self, below: &str) -> u64 {
        fs::metadata(self.path(below)).unwrap().ino()
    }

    fn remove(&self, below: &str) {
        fs::remove_dir_all(self.path(below)).unwrap();
    }

    /// Looking takes no time, on whatever machine.
    fn pods(&self) -> PodCgroups {
        PodCgroups::with(self.0.path(), Events::new(), || Duration::ZERO)
    }

    /// As on a system that has no watches left.
    fn pods_without_events(&self) -> PodCgroups {
        PodCgroups::with(self.0.path(), Events::none(), || Duration::ZERO)
    }

    /// One look at it, and whether that was all.
    fn walk(&self) -> (PodsByCgroup, bool) {
        let mut tree = super::Tree::new(self.0.path());
        tree.walk(&Events::new()).unwrap();
        let pods = tree.pods().map(|(cgroup, pod)| (cgroup, pod.clone()));
        (pods.collect(), tree.is_complete())
    }

    fn point(&self) -> Result<AttachPoint, Error> {
        point_in(self.0.path().to_owned())
    }

    /// Where the hook would be, relative to the tree.
    fn attached(&self) -> PathBuf {
        let point = self.point().unwrap();
        assert_eq!(point.tree, self.0.path());
        assert_eq!(point.is_kubepods, point.path != self.0.path());
        point.path.strip_prefix(self.0.path()).unwrap().to_owned()
    }

    fn add_this_process(&self, below: &str) {
        let list = format!("1\n{}\n0\n", std::process::id());
        fs::write(self.path(below).join("cgroup.procs"), list).unwrap();
    }
}

/// One pod of each quality-of-service class of a kubelet: guaranteed, burstable, best effort.
fn cgroupfs(root: &str) -> [String; 3] {
    let [guaranteed, burstable, best_effort] = UIDS;
    [
        format!("{root}kubepods/pod{guaranteed}"),
        format!("{root}kubepods/burstable/pod{burstable}"),
        format!("{root}kubepods/besteffort/pod{best_effort}"),
    ]
}

fn systemd(root: &str, parents: &str) -> [String; 3] {
    let [guaranteed, burstable, best_effort] = UIDS.map(|uid| uid.replace('-', "_"));
    let kubepods = format!("{root}{parents}kubepods.slice/{parents}kubepods");
    [
        format!("{kubepods}-pod{guaranteed}.slice"),
        format!("{kubepods}-burstable.slice/{parents}kubepods-burstable-pod{burstable}.slice"),
        format!("{kubepods}-besteffort.slice/{parents}kubepods-besteffort-pod{best_effort}.slice"),
    ]
}

fn as_strs(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

#[test]
fn the_cgroup_of_all_pods_is_found_whatever_its_name() {
    let others = [
        "system.slice/containerd.service",
        "user.slice/user-0.slice/podman",
        "init.scope",
        "machine.slice",
    ];
    for (pods, expected) in [
        (cgroupfs(""), "kubepods"),
        (systemd("", ""), "kubepods.slice"),
        (cgroupfs("kubelet/"), "kubelet/kubepods"),
        (
            systemd("kubelet.slice/", "kubelet-"),
            "kubelet.slice/kubelet-kubepods.slice",
        ),
        (
            cgroupfs("system.slice/docker-4f.scope/kubelet/"),
            "system.slice/docker-4f.scope/kubelet/kubepods",
        ),
    ] {
        let tree = Tree::new(&others);
        for pod in &pods {
            tree.make(pod);
        }
        assert_eq!(tree.attached(), Path::new(expected));
    }
}

#[test]
fn it_is_found_before_the_first_pod() {
    for name in ["kubepods", "kubepods.slice"] {
        assert_eq!(Tree::new(&[name, "system.slice"]).attached(), Path::new(name));
    }
}

#[test]
fn the_outer_one_counts() {
    let pod = format!("kubepods/pod{}", UIDS[0]);
    let tree = Tree::new(&[&format!("{pod}/4f/kubepods/x"), "a/kubepods/b"]);
    assert_eq!(tree.attached(), Path::new("kubepods"));
}

/// Then its name is that of the volume.
#[test]
fn it_may_be_all_that_is_mounted() {
    for pods in [cgroupfs(""), systemd("", "")] {
        for pod in &pods {
            let (_kubepods, below) = pod.split_once('/').unwrap();
            let tree = Tree::new(&[below]);
            let point = tree.point().unwrap();
            assert_eq!(
                (point.path.as_path(), point.is_kubepods),
                (tree.0.path(), true),
                "{pod}"
            );
        }
    }
}

#[test]
fn without_it_the_whole_tree_is_taken() {
    for names in [&["system.slice", "user.slice"][..], &[], &["notkubepods.slice"]] {
        assert_eq!(Tree::new(names).attached(), Path::new(""));
    }
}

#[test]
fn of_several_ours_is_the_one_that_we_are_in() {
    let tree = Tree::new(&[
        "docker/node-1/kubelet/kubepods/x",
        "docker/node-2/kubelet/kubepods/burstable/podx/4f",
    ]);
    let error = tree.point().unwrap_err();
    assert!(
        matches!(&error, Error::Ambiguous { paths } if paths.len() == 2),
        "{error}"
    );
    tree.add_this_process("docker/node-2/kubelet/kubepods/burstable/podx/4f");
    assert_eq!(tree.attached(), Path::new("docker/node-2/kubelet/kubepods"));
}

#[test]
fn an_empty_one_is_left_over_from_another_driver() {
    let [pod, ..] = systemd("", "");
    let tree = Tree::new(&["kubepods/burstable", &pod]);
    assert_eq!(tree.attached(), Path::new("kubepods.slice"));
}

/// As a volume without `type: Directory` makes it.
#[test]
fn a_tree_without_a_process_is_no_nodes() {
    let tree = Tree::new(&[]);
    fs::write(tree.path("cgroup.events"), "populated 0\nfrozen 0\n").unwrap();
    let error = tree.point().unwrap_err();
    assert!(error.to_string().contains("type: Directory"), "{error}");
    fs::write(tree.path("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
    assert_eq!(tree.attached(), Path::new(""));
}

#[test]
fn a_wrong_directory_is_named_with_what_to_do() {
    let tree = Tree::new(&["kubepods"]);
    let error = attach_point(tree.0.path()).unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, Error::NotCgroup2 { .. }), "{message}");
    assert!(message.contains(tree.0.path().to_str().unwrap()), "{message}");
    assert!(message.contains("/sys/fs/cgroup/unified"), "{message}");

    let gone = tree.path("gone");
    let error = attach_point(&gone).unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, Error::Missing { .. }), "{message}");
    assert!(
        message.contains(gone.to_str().unwrap()) && message.contains("hostPath"),
        "{message}"
    );
}

#[tokio::test]
async fn all_cgroups_of_pods_are_found_with_both_drivers() {
    for pods in [
        cgroupfs(""),
        systemd("", ""),
        systemd("kubelet.slice/", "kubelet-"),
    ] {
        let tree = Tree::new(&["system.slice/x.service"]);
        let mut expected = PodsByCgroup::new();
        for (pod, uid) in pods.iter().zip(UIDS) {
            tree.make(&format!("{pod}/cri-containerd-4f.scope/init.scope/deeper"));
            for below in [
                "",
                "/cri-containerd-4f.scope",
                "/cri-containerd-4f.scope/init.scope",
                "/cri-containerd-4f.scope/init.scope/deeper",
            ] {
                expected.insert(tree.id(&format!("{pod}{below}")), uid.into());
            }
        }
        let found = tree.pods();
        let scanned = found.scan().await.unwrap();
        assert_eq!(*scanned, expected);
        let outermost = pods.iter().zip(UIDS).map(|(pod, uid)| (tree.id(pod), uid.into()));
        assert_eq!(**found.outermost().borrow(), outermost.collect());
    }
}

#[tokio::test]
async fn a_place_that_is_gone_is_named() {
    let tree = Tree::new(&[]);
    let pods = PodCgroups::new(&tree.path("kubepods"));
    let error = pods.scan().await.unwrap_err();
    assert!(error.to_string().contains("kubepods"), "{error}");
    assert_eq!(pods.find(1).await, None);
    let [pod, ..] = cgroupfs("");
    let cgroup = tree.make(&pod);
    assert_eq!(
        pods.find(cgroup).await,
        Some(UIDS[0].into()),
        "as soon as it is there"
    );
}

/// Directories come and go while it walks; those that stay are found each time.
#[test]
fn what_vanishes_disturbs_nobody() {
    let [stays, ..] = cgroupfs("");
    let tree = Tree::new(&[&stays]);
    let id = tree.id(&stays);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0_u64;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                number += 1;
                let pod = format!("kubepods/pod00000000-0000-0000-0000-{number:012x}");
                tree.make(&format!("{pod}/a/b"));
                tree.remove(&pod);
            }
        });
        for _ in 0..500 {
            let (pods, complete) = tree.walk();
            assert!(complete);
            assert_eq!(pods.get(&id), Some(&UIDS[0].into()));
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_pod_with_cgroups_without_end_hides_no_other() {
    let [greedy, modest, _] = cgroupfs("");
    let tree = Tree::new(&[&greedy, &modest]);
    for number in 0..2_000 {
        tree.make(&format!("{greedy}/4f/{number}"));
    }
    let container = tree.make(&format!("{modest}/4f/nested"));
    let (pods, complete) = tree.walk();
    assert!(!complete, "and it says that it is not all");
    assert_eq!(pods.get(&container), Some(&UIDS[1].into()));
    let of = |uid: &str| pods.values().filter(|pod| pod.as_str() == uid).count();
    assert_eq!((of(UIDS[0]), of(UIDS[1])), (1_000, 3));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_cgroup_is_looked_for() {
    for with_events in [true, false] {
        let [first, second, third] = cgroupfs("");
        let tree = Tree::new(&[&first]);
        let pods = if with_events {
            tree.pods()
        } else {
            tree.pods_without_events()
        };
        assert_eq!(pods.known(tree.id(&first)), None);
        assert_eq!(pods.find(tree.id(&first)).await, Some(UIDS[0].into()));
        for (pod, uid) in [(second, UIDS[1]), (third, UIDS[2])] {
            let container = tree.make(&format!("{pod}/4f"));
            assert_eq!(pods.find(container).await, Some(uid.into()));
            assert_eq!(pods.known(tree.id(&pod)), Some(uid.into()), "found on the way");
            let nested = tree.make(&format!("{pod}/4f/nested/deeper"));
            assert_eq!(pods.find(nested).await, Some(uid.into()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn where_events_tell_enough_a_tree_is_walked_once() {
    let [pod, ..] = cgroupfs("");
    let tree = Tree::new(&[&pod]);
    let pods = tree.pods();
    assert_eq!(pods.find(u64::MAX).await, None);
    advance(PAUSE).await;
    let before = Instant::now();
    for container in 1..20 {
        let id = tree.make(&format!("{pod}/{container}"));
        assert_eq!(pods.find(u64::MAX - container).await, None);
        assert_eq!(pods.find(id).await, Some(UIDS[0].into()));
    }
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert!(pods.0.tree().is_current());
}

#[test]
fn whoever_has_worked_rests_ten_times_as_long_and_a_while_after_each_walk() {
    let pause = |walked, milliseconds| {
        let done = Refreshed {
            found: None,
            complete: true,
            walked,
            took: Duration::from_millis(milliseconds),
        };
        done.pause().as_millis()
    };
    assert_eq!([pause(false, 0), pause(false, 3)], [0, 30]);
    assert_eq!([pause(true, 3), pause(true, 30)], [PAUSE.as_millis(), 300]);
}

#[tokio::test(start_paused = true)]
async fn however_many_are_missed_the_tree_is_walked_a_few_times_per_second() {
    let tree = Tree::new(&as_strs(&cgroupfs("")));
    let pods = tree.pods_without_events();
    let before = Instant::now();
    for stranger in 0..10 {
        assert_eq!(pods.find(u64::MAX - stranger).await, None);
    }
    assert!(
        before.elapsed() >= PAUSE * 9,
        "one after the other: {:?}",
        before.elapsed()
    );

    let before = Instant::now();
    let at_once = (100..300).map(|stranger| pods.find(u64::MAX - stranger));
    let found = futures_util::future::join_all(at_once).await;
    assert!(found.iter().all(Option::is_none));
    assert!(
        before.elapsed() < PAUSE * 3,
        "all together: {:?}",
        before.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_stranger_is_looked_for_once() {
    let tree = Tree::new(&as_strs(&cgroupfs("")));
    let pods = tree.pods_without_events();
    assert_eq!(pods.find(u64::MAX).await, None);
    let before = Instant::now();
    for _ in 0..1_000 {
        assert_eq!(pods.find(u64::MAX).await, None);
    }
    assert_eq!(before.elapsed(), Duration::ZERO);
}

/// What events tell, one after the other, ends in what is there.
#[tokio::test]
async fn what_comes_and_goes_leaves_what_is_there() {
    let tree = Tree::new(&as_strs(&cgroupfs("")));
    let pods = tree.pods();
    pods.scan().await.unwrap();
    let mut random = fastrand::Rng::with_seed(4);
    for _ in 0..60 {
        for _ in 0..random.usize(1..20) {
            let pod = &cgroupfs("")[random.usize(..3)];
            let below = format!("{pod}/{}", ["a", "b", "a/c", "a/c/d", "b/e"][random.usize(..5)]);
            if random.bool() {
                tree.make(&below);
            } else {
                // It may not be there.
                fs::remove_dir_all(tree.path(&below)).ok();
            }
        }
        assert_eq!(pods.find(random.u64(1 << 60..)).await, None);
        let mut told: Vec<_> = pods.0.tree().pods().map(|(id, _)| id).collect();
        let mut there: Vec<_> = tree.walk().0.into_keys().collect();
        told.sort_unstable();
        there.sort_unstable();
        assert_eq!(told, there);
        assert!(pods.0.tree().is_current());
    }
}

/// The last connection of a container may be accepted when the container is gone.
#[tokio::test(start_paused = true)]
async fn who_is_gone_is_remembered_for_a_minute() {
    let [pod, other, _] = cgroupfs("");
    let tree = Tree::new(&[&pod, &other]);
    let pods = tree.pods();
    let id = tree.id(&pod);
    assert_eq!(pods.find(id).await, Some(UIDS[0].into()));
    advance(LINGER * 2).await;
    tree.remove(&pod);
    assert_eq!(pods.scan().await.unwrap().get(&id), Some(&UIDS[0].into()));
    advance(LINGER.mul_f32(0.9)).await;
    assert_eq!(pods.scan().await.unwrap().get(&id), Some(&UIDS[0].into()));
    advance(LINGER.mul_f32(0.2)).await;
    assert_eq!(pods.scan().await.unwrap().get(&id), None);
    assert_eq!(pods.known(id), None);
}

/// Waits until the one that follows the tree has told of a cgroup.
async fn told_of(changes: &mut watch::Receiver<Arc<PodsByCgroup>>, cgroup: u64, uid: &str) {
    let told = changes.wait_for(|pods| pods.get(&cgroup).is_some_and(|pod| pod.as_str() == uid));
    timeout(PATIENCE, told)
        .await
        .unwrap_or_else(|_elapsed| panic!("nobody tells of {uid}"))
        .unwrap();
}

async fn following<T>(pods: &PodCgroups, body: impl Future<Output = T>) -> T {
    tokio::select! {
        () = pods.follow() => unreachable!("it never ends"),
        result = body => result,
    }
}

#[tokio::test]
async fn new_pods_and_containers_are_told_of() {
    let [first, second, third] = cgroupfs("");
    let tree = Tree::new(&[&first]);
    let pods = tree.pods();
    let mut changes = pods.0.known.subscribe();
    let began = Instant::now();
    following(&pods, async {
        told_of(&mut changes, tree.id(&first), UIDS[0]).await;
        assert!(pods.0.tree().is_current());
        let container = tree.make(&format!("{first}/4f"));
        told_of(&mut changes, container, UIDS[0]).await;
        // A class that was not there, and what was made in it before anybody could watch it.
        let container = tree.make(&format!("{second}/4f"));
        told_of(&mut changes, container, UIDS[1]).await;
        let container = tree.make(&format!("{third}/4f"));
        told_of(&mut changes, container, UIDS[2]).await;
        let nested = tree.make(&format!("{third}/4f/nested/deeper"));
        told_of(&mut changes, nested, UIDS[2]).await;
    })
    .await;
    assert!(
        began.elapsed() < WALK_AGAIN,
        "by events, not because it looks now and then"
    );
}

/// A cgroup that is called like one of a pod is that of a pod only outside of pods.
#[tokio::test]
async fn a_pod_has_one_outermost_cgroup_for_as_long_as_it_is_there() {
    let [first, second, _] = cgroupfs("");
    let tree = Tree::new(&[&format!("{first}/4f/kubepods/pod{}", UIDS[1]), &second]);
    let pods = tree.pods();
    pods.scan().await.unwrap();
    let expected = |pods: &[(&str, &str)]| {
        let all = pods.iter().map(|(pod, uid)| (tree.id(pod), (*uid).into()));
        all.collect::<PodsByCgroup>()
    };
    let both = expected(&[(&first, UIDS[0]), (&second, UIDS[1])]);
    assert_eq!(**pods.outermost().borrow(), both);
    tree.remove(&second);
    pods.scan().await.unwrap();
    assert_eq!(**pods.outermost().borrow(), expected(&[(&first, UIDS[0])]));
}

#[tokio::test(start_paused = true)]
async fn without_events_new_pods_are_told_of_a_second_later() {
    let [first, second, _] = cgroupfs("");
    let tree = Tree::new(&[&first]);
    let pods = tree.pods_without_events();
    let mut changes = pods.0.known.subscribe();
    following(&pods, async {
        told_of(&mut changes, tree.id(&first), UIDS[0]).await;
        let id = tree.make(&second);
        let before = Instant::now();
        told_of(&mut changes, id, UIDS[1]).await;
        assert!(
            before.elapsed() < WALK_AGAIN_WITHOUT_EVENTS * 2,
            "{:?}",
            before.elapsed()
        );
    })
    .await;
}

/// Somebody removes the tree, or it is not there yet.
#[tokio::test]
async fn following_goes_on_when_the_place_comes_back() {
    let tree = Tree::new(&[]);
    let pods = PodCgroups::new(&tree.path("kubepods"));
    let mut changes = pods.0.known.subscribe();
    following(&pods, async {
        let [pod, ..] = cgroupfs("");
        let id = tree.make(&pod);
        told_of(&mut changes, id, UIDS[0]).await;
        tree.remove("kubepods");
        let id = tree.make(&format!("{pod}/4f"));
        told_of(&mut changes, id, UIDS[0]).await;
    })
    .await;
}
