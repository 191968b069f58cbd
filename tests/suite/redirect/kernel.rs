//! What the programs ask of the kernel, and the proof that the hook works.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use tracing_subscriber::layer::SubscriberExt;

use transparent_proxy::datapath::foreign::testing::RefuseEverything;
use transparent_proxy::datapath::foreign::{Hook, Mode, programs_on};
use transparent_proxy::datapath::self_test::{SelfTest, SelfTestError};
use transparent_proxy::datapath::{Datapath, Options};

use super::{ANYBODY, PATIENCE, load};
use crate::harness::binary;
use crate::harness::node::{self, Cgroup, PROXY4, Pod, at, lonely_node};

/// A million is the kernel's limit; far below it is where loading stays quick.
const VERIFIER_BUDGET: u32 = 10_000;

#[test]
fn the_verifier_is_done_quickly() {
    if !node::privileged() {
        return;
    }
    let datapath = Datapath::load(&Options {
        origin_record: true,
        refusal_record: true,
        ..Options::default()
    })
    .unwrap();
    for (program, instructions) in datapath.verified_instructions() {
        eprintln!("{program}: {instructions} instructions");
        assert!(instructions < VERIFIER_BUDGET, "{program}: {instructions}");
    }
}

/// What a container gets at best: no `CAP_PERFMON`, without which pointer arithmetic is
/// restricted, and no `CAP_SYS_ADMIN`.
#[test]
fn the_programs_load_with_cap_bpf_and_cap_net_admin_alone() {
    if !node::privileged() {
        return;
    }
    let mut setpriv = Command::new("setpriv");
    setpriv.args([
        "--inh-caps=-all",
        "--bounding-set=-all,+bpf,+net_admin",
        "--ambient-caps=-all",
    ]);
    assert_child_succeeds(&mut setpriv, "kernel::the_programs_load");
}

/// <https://github.com/cilium/ebpf/issues/1902>
#[test]
fn the_programs_load_where_the_kernel_hides_its_types() {
    if !node::privileged() {
        return;
    }
    let hide = "mount -t tmpfs none /sys/kernel && exec \"$@\"";
    let mut hidden = Command::new("unshare");
    hidden.args(["--mount", "sh", "-ec", hide, "sh"]);
    assert_child_succeeds(&mut hidden, "kernel::the_programs_load");
}

/// Also run by the two tests above, in a child that has less than this process.
#[test]
fn the_programs_load() {
    if std::env::var_os(IN_CHILD).is_none() && !node::privileged() {
        return;
    }
    for kernel_log in [false, true] {
        let options = Options {
            origin_record: true,
            refusal_record: true,
            kernel_log,
            ..Options::default()
        };
        Datapath::load(&options).unwrap_or_else(|error| panic!("{error}: {error:?}"));
    }
}

/// Tells a child that it has the privileges that its test needs, although it has few.
pub(super) const IN_CHILD: &str = "TRANSPARENT_PROXY_TEST_CHILD";

pub(super) fn assert_child_succeeds(launcher: &mut Command, test: &str) {
    let output = launcher
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", &format!("redirect::{test}")])
        .env(IN_CHILD, "1")
        .output();
    let output = output.expect("util-linux is installed");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn prove(datapath: &Datapath, node: &Pod, cgroup: Option<PathBuf>) -> Result<(), SelfTestError> {
    let test = SelfTest::new(datapath, cgroup).with_program(binary::path());
    node.block_on(test.run_once())
}

/// A cgroup that processes can be moved into, with the hook on it.
fn hooked_cgroup(datapath: &mut Datapath) -> transparent_proxy::datapath::cgroup::OwnCgroup {
    use transparent_proxy::datapath::cgroup::{Mount, OwnCgroup};
    let own = Mount::find().unwrap().own_cgroup().unwrap();
    let name = format!("test-{}-{:?}", std::process::id(), std::thread::current().id());
    let cgroup = OwnCgroup::create(&own, &name.replace(['(', ')'], "")).unwrap();
    datapath.attach(cgroup.path()).unwrap();
    cgroup
}

#[test]
fn the_self_test_passes_while_the_hook_works() {
    if !node::privileged() {
        return;
    }
    let mut datapath = load(false);
    let cgroup = hooked_cgroup(&mut datapath);
    let node = lonely_node();
    for _ in 0..3 {
        prove(&datapath, &node, Some(cgroup.path().to_owned())).unwrap();
    }
}

/// Java opens IPv6 sockets for all addresses, so what keeps connect6 from working keeps it away.
#[test]
fn the_self_test_tries_each_kind_of_socket_that_is_hooked() {
    if !node::privileged() {
        return;
    }
    let mut datapath = load(false);
    let cgroup = hooked_cgroup(&mut datapath);
    let node = lonely_node();
    for (hook, name) in [(Hook::Connect4, "IPv4"), (Hook::Connect6, "IPv6")] {
        let foreign = RefuseEverything::attach_to(hook, cgroup.path(), Mode::Multi).unwrap();
        let error = prove(&datapath, &node, Some(cgroup.path().to_owned())).unwrap_err();
        assert!(
            matches!(&error, SelfTestError::NotRedirected { said, .. } if said.contains(name)),
            "{error}"
        );
        drop(foreign);
        prove(&datapath, &node, Some(cgroup.path().to_owned())).unwrap();
    }
}

/// For processes that may not move others: the child is where its parent is.
#[test]
fn the_self_test_needs_no_cgroup_where_the_process_itself_is_hooked() {
    if !node::privileged() {
        return;
    }
    let mut datapath = load(false);
    let node = lonely_node();
    datapath.attach(node.cgroup.path()).unwrap();
    prove(&datapath, &node, None).unwrap();
}

#[test]
fn the_self_test_fails_without_the_hook() {
    if !node::privileged() {
        return;
    }
    let mut datapath = load(false);
    let cgroup = hooked_cgroup(&mut datapath);
    datapath.detach();
    let error = prove(&datapath, &lonely_node(), Some(cgroup.path().to_owned())).unwrap_err();
    assert!(matches!(error, SelfTestError::NotRedirected { .. }), "{error:?}");
    assert!(error.to_string().contains("Connection refused"), "{error}");
}

/// The link says "attached" for ever, to something that nobody can be in any more.
/// <https://github.com/cilium/cilium/issues/48420>
#[test]
fn a_cgroup_that_was_made_again_is_noticed_by_the_self_test() {
    if !node::privileged() {
        return;
    }
    let mut datapath = load(false);
    let cgroup = hooked_cgroup(&mut datapath);
    let path = cgroup.path().to_owned();
    drop(cgroup);
    let error = prove(&datapath, &lonely_node(), Some(path.clone())).unwrap_err();
    assert!(matches!(error, SelfTestError::Cgroup(_)), "{error:?}");

    std::fs::create_dir(&path).unwrap();
    let error = prove(&datapath, &lonely_node(), Some(path.clone())).unwrap_err();
    assert!(matches!(error, SelfTestError::NotRedirected { .. }), "{error:?}");

    datapath.detach();
    datapath.attach(&path).unwrap();
    prove(&datapath, &lonely_node(), Some(path.clone())).unwrap();
    std::fs::remove_dir(&path).unwrap();
}

#[test]
fn what_is_loaded_for_a_cgroup_is_gone_with_the_datapath() {
    if !node::privileged() {
        return;
    }
    let cgroup = Cgroup::new();
    let mut datapath = load(true);
    datapath.attach(cgroup.path()).unwrap();
    let attached = |cgroup: &Cgroup| {
        let programs = programs_on(cgroup.path()).unwrap();
        programs
            .into_iter()
            .filter(|program| program.cgroup == cgroup.path())
            .count()
    };
    assert_eq!(attached(&cgroup), datapath.verified_instructions().len());
    drop(datapath);
    assert_eq!(attached(&cgroup), 0);
}

/// Off, the code is not even there: the verifier removes it.
#[test]
fn reporting_costs_nothing_unless_wanted() {
    if !node::privileged() {
        return;
    }
    let instructions = |kernel_log| {
        let datapath = Datapath::load(&Options {
            kernel_log,
            ..Options::default()
        })
        .unwrap();
        datapath
            .verified_instructions()
            .into_iter()
            .map(|(_, count)| count)
            .sum::<u32>()
    };
    let (silent, reporting) = (instructions(false), instructions(true));
    assert!(
        silent * 2 < reporting,
        "{silent} instructions silent, {reporting} reporting"
    );
}

#[test]
fn decisions_are_reported_while_the_level_asks_for_it() {
    if !node::privileged() {
        return;
    }
    let node = lonely_node();
    let mut datapath = Datapath::load(&Options {
        kernel_log: true,
        ..Options::default()
    })
    .unwrap();
    datapath
        .virtual_ips()
        .insert(at("10.96.0.10", 80), at(PROXY4, 15_001), ANYBODY)
        .unwrap();
    datapath.attach(node.cgroup.path()).unwrap();
    let (lines, log) = Lines::subscriber();
    let reports = datapath.kernel_log().unwrap().expect("it was asked for");
    let forward = async {
        let _guard = tracing::subscriber::set_default(log);
        let forward = reports.forward();
        tokio::pin!(forward);
        let attempts = async {
            for port in [80, 81] {
                let _ = tokio::net::TcpStream::connect(at("10.96.0.10", port)).await;
            }
            lines
                .wait_for("connect to ::ffff:10.96.0.10 port 81 refused")
                .await;
        };
        tokio::select! {
            // It looks at the level first.
            biased;
            ended = &mut forward => ended.expect("the reports can be read"),
            () = attempts => {}
        }
    };
    node.block_on(async { tokio::time::timeout(PATIENCE, forward).await })
        .expect("the report arrives");
    let all = lines.text();
    assert!(
        all.contains("port 80 redirected to ::ffff:10.244.0.1 port 15001"),
        "{all}"
    );
    assert!(
        all.lines()
            .all(|line| line.contains("DEBUG transparent_proxy::kernel")),
        "{all}"
    );
}

/// A log that a test can read.
#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn subscriber() -> (Self, impl tracing::Subscriber + Send + Sync) {
        let lines = Self::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        let only_ours = tracing_subscriber::filter::Targets::new()
            .with_target("transparent_proxy::kernel", tracing::Level::TRACE);
        (lines, log.with(only_ours))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    async fn wait_for(&self, what: &str) {
        while !self.text().contains(what) {
            tokio::task::yield_now().await;
        }
    }
}

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
