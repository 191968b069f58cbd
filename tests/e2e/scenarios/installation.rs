//! `helm install` from nothing.

use crate::harness::world::{INSTALLATION, World};

pub fn helm_installs_it_and_destinations_become_available(world: &World) {
    let installation = world.installation();
    let installed = world
        .cluster
        .helm(&["list", "--short", "--namespace", INSTALLATION]);
    // A cluster that was kept has it already.
    if !installed.contains(INSTALLATION) {
        installation.install(super::upgrades::VALUES);
    }
    installation.wait_until_agents_are_ready();
    assert_eq!(
        installation.fallback().len(),
        2,
        "the chart's default are two pods of the fallback"
    );
    world.offer_destinations();
}
