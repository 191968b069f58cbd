//! Changes take effect while everything runs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use tokio::time::Instant;
use transparent_proxy::api::labels::DESTINATION_NAMESPACE;

use crate::harness::destination::Destination;
use crate::harness::pod::Pod;
use crate::harness::wait::{eventually, until};
use crate::harness::world::{AUTHORIZATION, PASSWORD, SHOP, USER, World};

const NEW_RESOURCE_WITHIN: Duration = Duration::from_secs(2);
const CHANGED_SECRET_WITHIN: Duration = Duration::from_secs(5);

/// Of the clock that everybody on this machine has.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later");
    since.as_millis().try_into().expect("milliseconds fit")
}

/// From the API server's answer to `kubectl apply` to the first request that is answered.
pub fn a_new_resource_works_within_two_seconds(world: &World) {
    for (pod, name) in world.shop().iter().zip(["fresh1", "fresh2"]) {
        let destination = Destination::http(name, &world.servers().news.url());
        world
            .cluster
            .apply(&[destination.secret(&world.installation().namespace)]);
        let asking = pod.pressure(&["-rate", "20", &format!("http://{name}/")]);
        world.cluster.apply(&[destination.resource(SHOP)]);
        let applied = now();
        world.installation().wait_until_available(&destination, SHOP);
        until(NEW_RESOURCE_WITHIN, "it can be used", || {
            pod.curl(&format!("http://{name}/")).status == 200
        });
        let summary = asking.stop();
        assert!(summary.first_success > 0, "{summary:?}");
        let took = Duration::from_millis(summary.first_success.saturating_sub(applied));
        assert!(took < NEW_RESOURCE_WITHIN, "{took:?}: {summary:?}");
    }
}

pub fn a_changed_secret_is_live_within_five_seconds(world: &World) {
    // base64 of `ada:s3cr3t-rotated`
    const ROTATED: &str = "Basic YWRhOnMzY3IzdC1yb3RhdGVk";
    let catalog = &world.servers().catalog;
    let namespace = &world.installation().namespace;
    let rotate = |password: &str| {
        let destination = Destination::http("catalog", &catalog.url()).with_basic(USER, password);
        world.cluster.apply(&[destination.secret(namespace)]);
        Instant::now()
    };
    let pods = world.shop();
    catalog.demand(ROTATED);
    let changed = rotate("s3cr3t-rotated");
    for pod in &pods {
        assert_answers_by(changed + CHANGED_SECRET_WITHIN, pod);
    }
    catalog.demand(AUTHORIZATION);
    let changed = rotate(PASSWORD);
    for pod in &pods {
        assert_answers_by(changed + CHANGED_SECRET_WITHIN, pod);
    }
}

fn assert_answers_by(deadline: Instant, pod: &Pod<'_>) {
    let left = deadline.saturating_duration_since(Instant::now());
    eventually(left, "the new password is used", || {
        match pod.curl("http://catalog/").status {
            200 => Ok(()),
            other => Err(other.to_string()),
        }
    });
}

pub fn a_deleted_resource_is_gone(world: &World) {
    let name = "short-lived";
    let destination = Destination::http(name, &world.servers().news.url());
    world.installation().offer(&destination, SHOP);
    let [pod, _] = world.shop();
    let virtual_ip = super::reach::virtual_ip(world, name);
    assert_eq!(pod.curl(&format!("http://{virtual_ip}/")).status, 200);
    world
        .cluster
        .kubectl(&["delete", "destination", name, "--namespace", SHOP]);
    until(Duration::from_secs(10), "its Services are gone", || {
        let services = world.cluster.kubectl(&["get", "services", "--all-namespaces"]);
        !services.contains(name)
    });
    until(Duration::from_secs(5), "its address answers nobody", || {
        pod.curl_with(&["--max-time", "2"], &format!("http://{virtual_ip}/"))
            .status
            == 0
    });
}

/// Kubernetes removes what is in the namespace; the Service in that of the installation is left to the manager.
pub fn a_deleted_namespace_leaves_nothing_of_its_services(world: &World) {
    const NAMESPACE: &str = "passing";
    let destination = Destination::http("fleeting", &world.servers().news.url());
    let installation = world.installation();
    world.cluster.apply(&[json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE },
    })]);
    installation.offer(&destination, NAMESPACE);
    let label = format!("{DESTINATION_NAMESPACE}={NAMESPACE}");
    let services = || {
        let all = ["get", "services", "--all-namespaces", "--output", "name"];
        let services = [&all[..], &["--selector", &label]].concat();
        world.cluster.kubectl(&services)
    };
    assert_eq!(services().lines().count(), 2, "{}", services());
    // It comes to an end: nothing in it has a finalizer that nobody would take away.
    world
        .cluster
        .kubectl(&["delete", "namespace", NAMESPACE, "--timeout", "60s"]);
    until(Duration::from_secs(10), "its Services are gone", || {
        services().is_empty()
    });
    let [pod, _] = world.shop();
    let name = format!("http://fleeting.{}/", installation.namespace);
    assert_eq!(pod.curl(&name).status, 0);
}
