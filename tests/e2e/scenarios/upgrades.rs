//! New versions under load.

use std::time::Duration;

use crate::harness::wait::until;
use crate::harness::world::World;

/// What every scenario is installed with.
pub(super) const VALUES: &[&str] = &[
    "config.metrics.prometheus.enabled=true",
    "deployment.replicas.manager=2",
];

/// Of both nodes together.
const REQUESTS_A_SECOND: &str = "100";

pub fn agents_are_replaced_and_rolled_back_without_a_failed_request(world: &World) {
    let installation = world.installation();
    let before = installation.agents();
    let [one, other] = world.shop();
    let arguments = [
        "-rate",
        REQUESTS_A_SECOND,
        "-expect",
        "welcome",
        "http://catalog/",
    ];
    let asking = [
        one.pressure(&arguments),
        other.pressure(&[&["-keep"], &arguments[..]].concat()),
    ];
    let connecting = one.pressure(&["-tcp", "-rate", "20", "echo:7000"]);

    installation.upgrade(&[VALUES, &["deployment.podAnnotations.version=next"]].concat());
    let after = installation.agents();
    assert!(
        after.iter().all(|agent| !before.contains(agent)),
        "all agents are new: {before:?} {after:?}"
    );
    installation.rollback();
    until(Duration::from_secs(30), "old pods are gone", || {
        installation.agents().len() == 2
    });
    for summary in asking.map(crate::harness::pressure::Pressure::stop) {
        summary.assert_all_answered();
    }
    connecting.stop().assert_all_answered();
}
