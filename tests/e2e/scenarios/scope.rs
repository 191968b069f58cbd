//! Who may connect.

use std::time::Duration;

use crate::harness::destination::Destination;
use crate::harness::pod::{Answer, Pod};
use crate::harness::world::{OnBothNodes, SHOP, World};

/// Refused, not timed out: for a machine under load. Who is not answered at all is asked again a second later, and then two
/// seconds after that.
const AT_ONCE: Duration = Duration::from_secs(3);

pub fn pods_of_a_foreign_namespace_are_refused_at_once(world: &World) {
    let [_, stranger] = world.strangers();
    let refused = stranger.curl("http://catalog.shop/");
    assert_eq!(refused.exit_code, COULD_NOT_CONNECT, "by the hook: {refused:?}");
    assert_strangers_are_refused(world, &world.strangers());
    // Whoever knows a pod of the proxy gets no further.
    let port = target_port(world, "catalog");
    for agent in world.installation().agents() {
        for stranger in world.strangers() {
            assert_refused(&stranger.curl(&format!("http://{}:{port}/", agent.address)));
        }
    }
}

/// `CURLE_COULDNT_CONNECT`
const COULD_NOT_CONNECT: i32 = 7;
/// `CURLE_GOT_NOTHING`, `CURLE_RECV_ERROR`: accepted by the kernel, reset by the proxy.
const RESET: [i32; 2] = [52, 56];

fn assert_refused(answer: &Answer) {
    assert!(
        answer.exit_code == COULD_NOT_CONNECT || RESET.contains(&answer.exit_code),
        "{answer:?}"
    );
    assert!(answer.elapsed < AT_ONCE, "{answer:?}");
}

pub(super) fn assert_strangers_are_refused(world: &World, strangers: &OnBothNodes<'_>) {
    world.servers().catalog.forget();
    for stranger in strangers {
        for name in ["catalog.shop", "catalog.transparent-proxy"] {
            assert_refused(&stranger.curl(&format!("http://{name}/")));
        }
        assert_eq!(stranger.echo("echo.shop", 7000), "");
    }
    assert_eq!(
        world.servers().catalog.requests().len(),
        0,
        "nothing got to the target"
    );
}

pub fn a_cluster_wide_destination_is_for_everybody_also_on_the_network_of_a_node(world: &World) {
    let shared = Destination::http("shared", &world.servers().news.url()).cluster_wide();
    world.installation().offer(&shared, SHOP);
    for stranger in world.strangers() {
        assert_eq!(stranger.curl("http://shared.shop/").status, 200);
    }
    let on_node = Pod::start_on_host_network(&world.cluster, SHOP, "on-host-network", "node2");
    assert_eq!(on_node.curl("http://shared.shop/").status, 200);
    assert_eq!(
        on_node.curl("http://catalog.shop/").status,
        200,
        "the hook knows the namespace of a pod on the node's network, too"
    );
    on_node.delete();
}

pub(super) fn target_port(world: &World, name: &str) -> u64 {
    let service = world
        .cluster
        .get(&["service", name, "--namespace", "transparent-proxy"]);
    service["spec"]["ports"][0]["targetPort"]
        .as_u64()
        .expect("a number")
}
