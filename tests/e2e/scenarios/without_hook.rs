//! `deployment.ebpf.enabled: false`: no program in the kernel, no privileges; kube-proxy leads to the fallback.

use std::time::Duration;

use crate::harness::wait::until;
use crate::harness::world::World;

pub fn the_same_requests_work_and_the_same_are_refused(world: &World) {
    let installation = world.installation();
    installation.upgrade(&[super::upgrades::VALUES, &["deployment.ebpf.enabled=false"]].concat());
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
