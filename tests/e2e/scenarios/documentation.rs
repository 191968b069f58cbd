//! What the documentation tells people to do.

use std::time::Duration;

use crate::harness::page::commands;
use crate::harness::pod::Pod;
use crate::harness::wait::{eventually, until};
use crate::harness::world::World;

const FIRST_DESTINATION: &str = "docs/kubernetes/first-destination.md";
const GREETING: &str = "Hello from behind the password.\n";
/// Images are there already, so a pod runs soon.
const STEP_WITHIN: Duration = Duration::from_mins(1);

/// What is typed there is run here. The proxy is installed already, and nothing is deleted: others use the namespace.
pub fn the_first_destination_works_as_its_page_says(world: &World) {
    let [pod, _] = world.shop();
    let mut commands = commands(FIRST_DESTINATION);
    commands.retain(|command| !command.starts_with("kubectl delete "));
    assert!(commands.len() > 8, "{commands:#?}");
    for command in commands {
        eventually(STEP_WITHIN, &command, || follow(world, &command));
        if command.starts_with("kubectl patch secret ") {
            until(STEP_WITHIN, "the server refuses the changed password", || {
                pod.curl("http://my-dest/").status == 401
            });
        }
    }
    until(STEP_WITHIN, "the backend answers", || {
        pod.curl("http://my-dest/").body == GREETING
    });
    every_example_of_a_resource_is_served_or_says_why_not(world, &pod);
}

/// Whether it went as the page says.
fn follow(world: &World, command: &str) -> Result<(), String> {
    let (succeeded, said) = world.cluster.shell(command);
    let as_expected = if command.contains(" -n default ") {
        !succeeded && said.contains("Connection refused")
    } else if command.starts_with("kubectl run ") {
        succeeded && said.contains(GREETING.trim_end())
    } else {
        succeeded
    };
    as_expected.then_some(()).ok_or(said)
}

fn every_example_of_a_resource_is_served_or_says_why_not(world: &World, pod: &Pod<'_>) {
    for file in [
        "port",
        "cluster-wide",
        "instance",
        "gateway",
        "tcp",
        "tenants",
        "later",
    ] {
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
        ("for-tenants", "True"),
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
    assert_eq!(pod.curl("http://my-dest-8080:8080/").body, GREETING);
    assert_eq!(pod.curl("http://from-secrets/").body, GREETING);
    let gateway = pod.curl_with(&["--header", "X-Destination-Name: my-dest"], "http://gateway/");
    assert_eq!(gateway.body, GREETING);
    let [stranger, _] = world.strangers();
    assert_eq!(stranger.curl("http://shared-dest.shop/").body, GREETING);
}
