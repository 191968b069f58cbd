//! `deployment.ebpf.enabled: false`: no program in the kernel, no privileges; kube-proxy leads to the fallback.

use std::time::Duration;

use crate::harness::pressure::Pressure;
use crate::harness::wait::until;
use crate::harness::world::World;

const NO_HOOK: &str = "deployment.ebpf.enabled=false";

pub fn the_same_requests_work_and_the_same_are_refused(world: &World) {
    let installation = world.installation();
    installation.upgrade(&[super::upgrades::VALUES, &[NO_HOOK]].concat());
    until(Duration::from_mins(2), "the agents are gone", || {
        installation.agents().is_empty()
    });
    let fallback: Vec<_> = installation.fallback().iter().map(|pod| pod.address).collect();
    for pod in world.shop() {
        assert_eq!(pod.curl("http://catalog/").status, 200);
        let served_by = world.servers().catalog.last().from;
        assert!(fallback.contains(&served_by), "{served_by} of {fallback:?}");
        assert_eq!(
            pod.java("http://catalog/"),
            "HTTP_1_1 200 welcome\nHTTP_2 200 welcome\n"
        );
        assert_eq!(pod.echo("echo", 7000), "hello\n");
    }
    super::scope::assert_strangers_are_refused(world, &world.strangers());
    for stranger in world.strangers() {
        assert_eq!(stranger.curl("http://shared.shop/").status, 200);
    }
}

/// A pod that is to go accepts connections until no node sends any more.
pub fn the_fallback_is_replaced_without_a_failed_request(world: &World) {
    let installation = world.installation();
    let before = installation.fallback();
    assert!(installation.agents().is_empty(), "the hook is off");
    let [one, other] = world.shop();
    let asking = [
        one.pressure(&["-rate", "50", "-expect", "welcome", "http://catalog/"]),
        other.pressure(&["-keep", "-rate", "50", "-expect", "welcome", "http://catalog/"]),
        one.pressure(&["-tcp", "-rate", "20", "echo:7000"]),
    ];
    let version = "deployment.podAnnotations.version=without-hook";
    installation.upgrade(&[super::upgrades::VALUES, &[NO_HOOK, version]].concat());
    until(Duration::from_mins(2), "all pods are new", || {
        let now = installation.fallback();
        now.len() == before.len() && now.iter().all(|pod| pod.ready && !before.contains(pod))
    });
    for summary in asking.map(Pressure::stop) {
        summary.assert_all_answered();
    }
}
