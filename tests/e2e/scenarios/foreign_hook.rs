//! Another product of our kind on the same node, as socket load balancers of CNI plugins are.
//! <https://github.com/cilium/cilium/issues/16583>

use std::net::SocketAddr;

use transparent_proxy::datapath::{Datapath, NamespaceNumber, Options};

use super::reach::virtual_ip;
use super::scope::target_port;
use crate::harness::world::World;

/// It translates the virtual IP into the address of an endpoint before our program sees it. Each destination has a port of
/// its own there, so it is still known which one is meant.
pub fn a_foreign_program_that_translates_first_does_not_change_the_destination(world: &World) {
    let installation = world.installation();
    let endpoint = installation.fallback().remove(0);
    let mut foreign = Datapath::load(&Options::default()).expect("root may load programs");
    for (name, port) in [("catalog", 80), ("echo", 7000)] {
        let from: SocketAddr = format!("{}:{port}", virtual_ip(world, name)).parse().unwrap();
        let to = SocketAddr::new(
            endpoint.address,
            target_port(world, name).try_into().expect("a port"),
        );
        foreign
            .virtual_ips()
            .insert(from, to, NamespaceNumber::NONE)
            .expect("there is room");
    }
    // Of programs on the same cgroup the one that was attached first comes first.
    foreign
        .attach(&world.cluster.node("node1").cgroup().join("kubepods"))
        .expect("it can be attached");
    installation.kubectl(&["delete", "pod", &installation.agent("node1").name]);
    installation.wait_until_agents_are_ready();

    let [pod, _] = world.shop();
    assert_eq!(pod.curl("http://catalog/").body, "welcome\n");
    assert_eq!(
        world.servers().catalog.last().from,
        endpoint.address,
        "the foreign program was first"
    );
    assert_eq!(pod.echo("echo", 7000), "hello\n");
    assert_eq!(world.servers().echo.last_peer(), endpoint.address);
    super::scope::assert_strangers_are_refused(world, &world.strangers());

    drop(foreign);
    assert_eq!(pod.curl("http://catalog/").status, 200);
    assert_eq!(
        world.servers().catalog.last().from,
        installation.agent("node1").address,
        "ours is still there"
    );
}
