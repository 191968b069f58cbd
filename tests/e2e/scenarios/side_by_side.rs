//! Several installations on one cluster, each for the namespaces that are labelled with its own.

use serde_json::json;

use crate::harness::destination::Destination;
use crate::harness::installation::Installation;
use crate::harness::pod::Pod;
use crate::harness::world::{INSTALLATION, SHOP, USER, World};

const LABEL: &str = "transparent-proxy.connectivity.api.sap/namespace";
const BY_LABEL: &str = "config.managedNamespacesMode=labelSelector";
const SECOND: &str = "second-proxy";
const BOUTIQUE: &str = "boutique";
/// base64 of `ada:s3cr3t-second`
const AUTHORIZATION: &str = "Basic YWRhOnMzY3IzdC1zZWNvbmQ=";

pub fn two_installations_serve_their_own_namespaces(world: &World) {
    let first = world.installation();
    label(world, SHOP, INSTALLATION);
    first.upgrade(&[super::upgrades::VALUES, &[BY_LABEL]].concat());
    world.cluster.apply(&[json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": BOUTIQUE },
    })]);
    label(world, BOUTIQUE, SECOND);
    let second = Installation::of(&world.cluster, SECOND);
    second.install(&[BY_LABEL]);

    let boutique = world
        .cluster
        .outside()
        .http("boutique.example.test", AUTHORIZATION);
    // The same name, for others, with another credential.
    let destination = Destination::http("catalog", &boutique.url()).with_basic(USER, "s3cr3t-second");
    second.offer(&destination, BOUTIQUE);
    let [shop, _] = world.shop();
    let pod = Pod::start(&world.cluster, BOUTIQUE, "customer", "node1");
    let both_work = || {
        assert_eq!(pod.curl("http://catalog/").status, 200);
        assert_eq!(boutique.last().from, second.agent("node1").address);
        assert_eq!(shop.curl("http://catalog/").status, 200);
        assert_eq!(world.servers().catalog.last().from, first.agent("node1").address);
    };
    both_work();
    assert_ne!(
        pod.curl("http://catalog.shop/").status,
        200,
        "the first one keeps strangers out as before"
    );
    first.kubectl(&["rollout", "restart", "daemonset", "sap-transp-proxy"]);
    first.kubectl(&[
        "rollout",
        "status",
        "daemonset",
        "sap-transp-proxy",
        "--timeout",
        "2m",
    ]);
    both_work();

    second.uninstall();
    assert_eq!(shop.curl("http://catalog/").status, 200, "the first one goes on");
    world
        .cluster
        .kubectl(&["delete", "namespace", BOUTIQUE, SECOND, "--wait=false"]);
}

fn label(world: &World, namespace: &str, installation: &str) {
    world.cluster.kubectl(&[
        "label",
        "namespace",
        namespace,
        &format!("{LABEL}={installation}"),
    ]);
}
