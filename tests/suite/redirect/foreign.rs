//! Programs of others on the same cgroups.

use std::net::TcpStream;

use transparent_proxy::datapath::foreign::testing::RefuseEverything;
use transparent_proxy::datapath::foreign::{AttachedProgram, Mode, programs_on};
use transparent_proxy::datapath::{Datapath, Error};

use super::{ANYBODY, PATIENCE, errno, listen, load};
use crate::harness::node::{self, PROXY4, Pod, at, lonely_node};

const OURS: &str = "10.96.0.10";
const ON_THE_SAME_CGROUP: &str = "10.97.0.1";
const ON_AN_ANCESTOR: &str = "10.97.0.2";

/// Another system of our kind: redirects an address of its own.
struct Foreign {
    listener: std::net::TcpListener,
    address: &'static str,
    datapath: Datapath,
}

impl Foreign {
    fn start(pod: &Pod, cgroup: &std::path::Path, address: &'static str) -> Self {
        let listener = listen(pod);
        let mut datapath = load(true);
        let port = listener.local_addr().unwrap().port();
        datapath
            .virtual_ips()
            .insert(at(address, 80), at(PROXY4, port), ANYBODY)
            .unwrap();
        datapath.attach(cgroup).unwrap();
        Self {
            listener,
            address,
            datapath,
        }
    }

    fn assert_works(&self, pod: &Pod) {
        let client = pod
            .run(|| TcpStream::connect_timeout(&at(self.address, 80), PATIENCE))
            .unwrap();
        assert_eq!(client.peer_addr().unwrap(), at(self.address, 80));
        let (_, from) = self.listener.accept().unwrap();
        assert_eq!(from.port(), client.local_addr().unwrap().port());
    }
}

/// <https://github.com/cilium/cilium/issues/24118>
#[test]
fn foreign_programs_keep_working_over_our_start_and_stop() {
    if !node::privileged() {
        return;
    }
    let node = lonely_node();
    let pod = Pod::new(node.namespace.clone(), node.cgroup.child("pod"));
    let beside = Foreign::start(&pod, pod.cgroup.path(), ON_THE_SAME_CGROUP);
    let above = Foreign::start(&pod, node.cgroup.path(), ON_AN_ANCESTOR);
    let assert_both_work = || {
        beside.assert_works(&pod);
        above.assert_works(&pod);
    };
    assert_both_work();
    let before = foreign_programs(&pod);

    for _ in 0..2 {
        let mut ours = Foreign::start(&pod, pod.cgroup.path(), OURS);
        ours.assert_works(&pod);
        assert_both_work();
        ours.datapath.stop_redirecting();
        assert_both_work();
        drop(ours);
        assert_both_work();
        assert_eq!(foreign_programs(&pod), before);
    }
}

fn foreign_programs(pod: &Pod) -> Vec<AttachedProgram> {
    programs_on(pod.cgroup.path()).unwrap()
}

#[test]
fn programs_are_listed_with_name_and_place() {
    if !node::privileged() {
        return;
    }
    let node = lonely_node();
    let _foreign = RefuseEverything::attach(node.cgroup.path(), Mode::Multi).unwrap();
    let child = node.cgroup.child("pod");
    let listed = programs_on(child.path()).unwrap();
    let found = listed
        .iter()
        .find(|program| program.name.as_deref() == Some(RefuseEverything::NAME))
        .unwrap();
    assert_eq!(
        (found.cgroup.as_path(), found.mode),
        (node.cgroup.path(), Mode::Multi)
    );
}

/// Attaching beside it fails in the kernel; attaching below an overridable one succeeds
/// and silently switches it off there.
#[test]
fn a_program_that_tolerates_no_other_makes_us_step_aside_and_is_named() {
    if !node::privileged() {
        return;
    }
    for mode in [Mode::Exclusive, Mode::Override] {
        let node = lonely_node();
        let pod = Pod::new(node.namespace.clone(), node.cgroup.child("pod"));
        let _foreign = RefuseEverything::attach(node.cgroup.path(), mode).unwrap();
        for cgroup in [node.cgroup.path(), pod.cgroup.path()] {
            let mut datapath = load(true);
            let error = datapath.attach(cgroup).unwrap_err();
            assert!(
                matches!(&error, Error::Exclusive { cgroup, hook: "connect4", program }
                    if cgroup == node.cgroup.path() && program == RefuseEverything::NAME),
                "{error:?}"
            );
            assert!(!datapath.is_attached());
            let refused = pod.run(|| TcpStream::connect(at("127.0.0.1", 1))).unwrap_err();
            assert_eq!(
                errno(refused),
                libc::EPERM,
                "{mode:?}: the foreign program still decides"
            );
        }
    }
}

/// The other way round: ours allows others beside it.
#[test]
fn a_foreign_program_can_be_attached_after_ours() {
    if !node::privileged() {
        return;
    }
    let node = lonely_node();
    let ours = Foreign::start(&node, node.cgroup.path(), OURS);
    let foreign = RefuseEverything::attach(node.cgroup.path(), Mode::Multi).unwrap();
    let refused = node.run(|| TcpStream::connect(at(OURS, 80))).unwrap_err();
    assert_eq!(errno(refused), libc::EPERM);
    drop(foreign);
    ours.assert_works(&node);
}
