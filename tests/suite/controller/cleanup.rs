//! The role `cleanup`, as Helm runs it before it removes a release.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;

use super::*;
use crate::harness::api_server::Instead;

const MANAGER: &str = "sap-transp-proxy-manager";

impl Installation<'_> {
    pub(super) fn cleanup(&self, name: &str) -> Role {
        Role::new("cleanup", &format!("controller-{name}"), &json!({}))
            .option("--namespace", &self.namespace)
            .env("KUBECONFIG", &self.kubeconfig)
    }

    /// As the chart makes it, with a pod; nobody here would start one.
    async fn deploy_manager(&self) {
        self.deploy_manager_on(&json!(null)).await;
    }

    pub(super) async fn deploy_manager_on(&self, node: &Value) {
        let labels = json!({(labels::COMPONENT): "manager"});
        let spec = json!({"nodeName": node, "containers": [{"name": "c", "image": "i"}]});
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"name": MANAGER},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": spec},
            },
        }))
        .unwrap();
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": MANAGER, "labels": labels},
            "spec": spec,
        }))
        .unwrap();
        let params = PostParams::default();
        self.deployments().create(&params, &deployment).await.unwrap();
        self.pods().create(&params, &pod).await.unwrap();
    }

    /// As its manager would make one.
    pub(super) async fn service_of_ours(&self, namespace: &str, name: &str) {
        let service = json!({
            "metadata": {"name": name, "labels": {
                (labels::MANAGED_BY): labels::MANAGER,
                (labels::INSTALLATION): self.namespace,
            }},
            "spec": {"type": "ExternalName", "externalName": "orders.test"},
        });
        let service = serde_json::from_value(service).unwrap();
        let services = self.services(namespace);
        services.create(&PostParams::default(), &service).await.unwrap();
    }

    fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(super) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

#[tokio::test]
async fn cleaning_up_stops_the_manager_and_removes_what_it_made_and_nothing_else() {
    let (tp, other) = (Installation::new("clean").await, Installation::new("dirty").await);
    let (shop, warehouse) = (tp.managed("shop").await, tp.managed("warehouse").await);
    let elsewhere = other.managed("elsewhere").await;
    let (mut manager, _other) = (tp.manager("clean").start(), other.manager("dirty").start());
    for installation in [&tp, &other] {
        installation.http("backend").await;
    }
    for (installation, namespace, name) in [
        (&tp, &shop, "orders"),
        (&tp, &warehouse, "stock"),
        (&other, &elsewhere, "theirs"),
    ] {
        installation.cr(namespace, name, "backend").await;
        installation.works(namespace, name).await;
    }
    tp.foreign_service(&shop, "foreign").await;
    tp.deploy_manager().await;

    let mut cleanup = tp.cleanup("cleanup").spawn();
    eventually("the manager is scaled to 0", || async {
        let deployment = tp.deployments().get(MANAGER).await.unwrap();
        (deployment.spec?.replicas? == 0).then_some(())
    })
    .await;
    cleanup.line("it waits for the pod", |line| {
        line["msg"] == "pods of the manager are left"
    });
    assert_eq!(tp.made().await.len(), 4);
    manager.stop();
    let now = DeleteParams::default().grace_period(0);
    tp.pods().delete(MANAGER, &now).await.unwrap();
    assert_eq!(cleanup.ended().code(), Some(0));
    assert_eq!(tp.made().await, [""; 0]);
    assert_eq!(other.made().await.len(), 2);
    assert!(tp.service(&shop, "foreign").await.is_some());
    assert!(
        tp.condition(&shop, "orders").await.is_some(),
        "CRs stay as they are"
    );
}

#[tokio::test]
async fn cleaning_up_without_a_manager_is_possible_twice_and_in_trouble() {
    let tp = Installation::new("twice").await;
    let way = tp.server.disturbed().await;
    way.disturb_times(2, |seen| seen.is_of("deployments"), Instead::Status(503));
    way.disturb_times(2, |seen| seen.is_of("services"), Instead::Cut);
    for name in ["twice-one", "twice-two"] {
        let mut cleanup = tp.cleanup(name).env("KUBECONFIG", way.kubeconfig()).spawn();
        assert_eq!(cleanup.ended().code(), Some(0));
    }
}

/// A pod whose node is gone stays until somebody takes the node away; nobody confirms that it ended.
/// <https://kubernetes.io/docs/concepts/architecture/nodes/#condition>
#[tokio::test]
async fn a_manager_on_a_node_that_is_gone_keeps_nobody_from_cleaning_up() {
    let tp = Installation::new("gone").await;
    let shop = tp.managed("shop").await;
    tp.service_of_ours(&shop, "orders").await;
    tp.deploy_manager_on(&json!("node-1")).await;
    tp.pods().delete(MANAGER, &DeleteParams::default()).await.unwrap();
    let mut cleanup = tp.cleanup("gone").spawn();
    cleanup.line("it waits for the pod", |line| {
        line["msg"] == "pods of the manager are left"
    });
    assert_eq!(tp.made().await.len(), 1);
    tp.nothing_is_left().await;
    assert_eq!(cleanup.ended().code(), Some(0));
    assert!(tp.pods().get(MANAGER).await.is_ok(), "it is still there");
}

#[tokio::test]
async fn cleaning_up_leaves_what_somebody_has_put_in_the_place_of_a_service() {
    let tp = Installation::new("replaced").await;
    let way = tp.server.disturbed().await;
    let shop = tp.managed("shop").await;
    tp.service_of_ours(&shop, "orders").await;
    way.disturb(
        |seen| seen.method == http::Method::DELETE && seen.is_of("orders"),
        Instead::Status(503),
    );
    let mut cleanup = tp.cleanup("replaced").env("KUBECONFIG", way.kubeconfig()).spawn();
    cleanup.line("it tries", |line| line["msg"] == "asking again");
    tp.services(&shop)
        .delete("orders", &DeleteParams::default())
        .await
        .unwrap();
    tp.foreign_service(&shop, "orders").await;
    way.calm();
    assert_eq!(cleanup.ended().code(), Some(0));
    assert!(tp.service(&shop, "orders").await.is_some());
}

/// One after the other, those of a large installation would not go in the time that Helm waits.
#[tokio::test]
async fn services_are_removed_side_by_side_but_not_all_at_once() {
    let tp = Installation::new("many").await;
    let way = tp.server.disturbed().await;
    let shop = tp.managed("shop").await;
    for number in 0..20 {
        tp.service_of_ours(&shop, &format!("orders-{number}")).await;
    }
    way.disturb(|seen| seen.method == http::Method::DELETE, Instead::Silence);
    let _cleanup = tp.cleanup("many").env("KUBECONFIG", way.kubeconfig()).spawn();
    eventually("many are on their way", || async {
        (way.writes()
            .iter()
            .filter(|seen| seen.method == http::Method::DELETE)
            .count()
            >= 16)
            .then_some(())
    })
    .await;
    let deletions = way
        .writes()
        .into_iter()
        .filter(|seen| seen.method == http::Method::DELETE);
    assert_eq!(deletions.count(), 16);
}
