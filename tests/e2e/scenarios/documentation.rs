//! What the documentation tells people to do.

use std::time::Duration;

use crate::harness::pod::Pod;
use crate::harness::wait::until;
use crate::harness::world::World;

/// `docs/kubernetes/first-destination.md`
pub fn the_first_destination_works_as_its_page_says(world: &World) {
    for file in ["backend.yaml", "secret.yaml", "destination.yaml"] {
        world.cluster.apply_file(&format!("examples/kubernetes/{file}"));
    }
    let wait = ["wait", "destination", "my-dest", "--namespace", "shop"];
    world
        .cluster
        .kubectl(&[&wait[..], &["--for", "condition=Available", "--timeout", "30s"]].concat());
    let rollout = [
        "rollout",
        "status",
        "deployment",
        "backend",
        "--namespace",
        "backend",
    ];
    world
        .cluster
        .kubectl(&[&rollout[..], &["--timeout", "60s"]].concat());
    let [pod, _] = world.shop();
    until(Duration::from_secs(10), "the backend answers", || {
        pod.curl("http://my-dest/").body == "Hello from behind the password.\n"
    });
    every_example_of_a_resource_is_served_or_says_why_not(world, &pod);
}

fn every_example_of_a_resource_is_served_or_says_why_not(world: &World, pod: &Pod<'_>) {
    for file in ["port", "cluster-wide", "instance", "gateway", "tcp", "later"] {
        world
            .cluster
            .apply_file(&format!("examples/kubernetes/destination-{file}.yaml"));
    }
    for (name, status) in [
        ("my-dest-8080", "True"),
        ("shared-dest", "True"),
        ("from-secrets", "True"),
        ("gateway", "True"),
        ("orders-db", "True"),
        ("with-level", "False"),
        ("with-fragment", "False"),
        ("with-chain", "False"),
        ("with-action", "False"),
        ("with-instance", "False"),
    ] {
        let what = format!("{name} has the condition Available={status}");
        until(Duration::from_secs(20), &what, || {
            world.installation().condition(name, "shop")["status"] == status
        });
    }
    let greeted = "Hello from behind the password.\n";
    assert_eq!(pod.curl("http://my-dest-8080:8080/").body, greeted);
    assert_eq!(pod.curl("http://from-secrets/").body, greeted);
    let gateway = pod.curl_with(&["--header", "X-Destination-Name: my-dest"], "http://gateway/");
    assert_eq!(gateway.body, greeted);
    let [stranger, _] = world.strangers();
    assert_eq!(stranger.curl("http://shared-dest.shop/").body, greeted);
}
