//! How much memory a manager takes in a large cluster.

use k8s_openapi::api::core::v1::Pod;
use tests::memory::Memory;

use super::*;
use crate::harness::large::{make, many};

/// In kB.
const LIMIT: u64 = 64 << 10;

#[tokio::test]
async fn a_large_cluster_fits_into_64_mib() {
    let [crs, secrets, services, pods] = [1_000, 30_000, 30_000, 10_000].map(many);
    let server = ApiServer::start().await;
    let tp = Installation::on(&server, "large").await;
    let (shop, foreign) = (tp.managed("shop").await, server.namespace("foreign").await);
    tp.http("backend").await;
    let client = server.client().await;
    // Base64 of 4 KiB, as certificates are.
    let data = "QUFB".repeat(1_400);
    make::<Secret>(
        &Api::namespaced(client.clone(), &foreign),
        secrets,
        |number| json!({"metadata": {"name": format!("secret-{number}")}, "data": {"key": data}}),
    )
    .await;
    make::<Service>(&Api::namespaced(client.clone(), &foreign), services, |number| {
        json!({
            "metadata": {"name": format!("service-{number}"), "labels": {"app": format!("app-{number}")}},
            "spec": {"clusterIP": "None", "ports": [{"port": 80, "protocol": "TCP"}]},
        })
    })
    .await;
    make::<Pod>(&Api::namespaced(client.clone(), &foreign), pods, |number| {
        json!({
            "metadata": {"name": format!("pod-{number}")},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        })
    })
    .await;
    make::<Destination>(&tp.crs(&shop), crs, |number| {
        json!({
            "apiVersion": "destination.connectivity.api.sap/v1",
            "kind": "Destination",
            "metadata": {"name": format!("dest-{number}")},
            "spec": {"destinationRef": {"name": "backend"}},
        })
    })
    .await;
    let begin = Instant::now();
    let settings = json!({"logging": {"level": "info"}});
    let mut manager = tp.manager_with("large", &settings).start();
    within(Duration::from_mins(5), "all CRs work", || async {
        (tp.made().await.len() == 2 * crs).then_some(())
    })
    .await;
    tp.works(&shop, &format!("dest-{}", crs - 1)).await;
    let first = begin.elapsed();
    let most = Memory::of(manager.id());
    println!("{crs} CRs made in {first:?}: {most}");
    manager.stop();
    let begin = Instant::now();
    let manager = tp.manager_with("large-again", &settings).start();
    tp.cr(&shop, "one-more", "backend").await;
    tp.works(&shop, "one-more").await;
    let again = Memory::of(manager.id());
    println!("restarted in {:?}: {again}", begin.elapsed());
    assert!(most.most.max(again.most) <= LIMIT);
}
