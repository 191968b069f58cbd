//! `helm uninstall`.

use std::time::Duration;

use transparent_proxy::datapath::foreign::programs_on;

use crate::harness::wait::eventually;
use crate::harness::world::{SHOP, World};

/// What every namespace has, and what we put there ourselves.
const NOT_OURS: [&str; 2] = ["configmap/kube-root-ca.crt", "serviceaccount/default"];
const NAMESPACED: &str = "configmaps,daemonsets,deployments,endpointslices,horizontalpodautoscalers,jobs,leases,pods,\
    poddisruptionbudgets,replicasets,rolebindings,roles,serviceaccounts,services";
const ENDED_WITHIN: Duration = Duration::from_secs(90);
const IN_THE_CLUSTER: &str = "clusterrolebindings,clusterroles,mutatingwebhookconfigurations,priorityclasses,\
    validatingwebhookconfigurations";

pub fn nothing_is_left_but_the_definition_and_the_resources(world: &World) {
    let installation = world.installation();
    let cluster = &world.cluster;
    let resources = || cluster.kubectl(&["get", "destinations", "--all-namespaces", "--output", "name"]);
    let before = resources();
    installation.uninstall();

    // Pods may drain for as long as their grace period is.
    eventually(ENDED_WITHIN, "nothing is left in the namespace", || {
        let left = installation.kubectl(&["get", NAMESPACED, "--output", "name"]);
        let left: Vec<&str> = left.lines().filter(|name| !NOT_OURS.contains(name)).collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    });
    let left = cluster.kubectl(&["get", IN_THE_CLUSTER, "--output", "name"]);
    let left: Vec<&str> = left.lines().filter(|name| name.contains("transp")).collect();
    assert!(left.is_empty(), "{left:?}");
    let services = cluster.kubectl(&["get", "services", "--namespace", SHOP, "--output", "name"]);
    assert_eq!(services, "", "generated Services are gone");

    assert_eq!(resources(), before, "the resources stay");
    cluster.kubectl(&[
        "get",
        "customresourcedefinition",
        "destinations.destination.connectivity.api.sap",
    ]);
    for node in cluster.nodes() {
        let programs = programs_on(&node.cgroup().join("kubepods")).expect("they can be listed");
        assert!(programs.is_empty(), "{}: {programs:?}", node.name);
    }
    let [pod, _] = world.shop();
    assert_eq!(
        pod.curl("http://catalog/").status,
        0,
        "there is no such name any more"
    );
    cluster.kubectl(&["delete", "namespace", &installation.namespace, "--timeout", "60s"]);
}
