//! The role `cleanup`, as Helm runs it before it removes a release.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;

use super::*;

const MANAGER: &str = "sap-transp-proxy-manager";

impl Installation<'_> {
    fn cleanup(&self, name: &str) -> Role {
        Role::new("cleanup", &format!("controller-{name}"), &json!({}))
            .option("--namespace", &self.namespace)
            .env("KUBECONFIG", &self.kubeconfig)
    }

    /// As the chart makes it, with a pod; nobody here would start one.
    async fn deploy_manager(&self) {
        let labels = json!({(labels::COMPONENT): "manager"});
        let spec = json!({"containers": [{"name": "c", "image": "i"}]});
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

    fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn pods(&self) -> Api<Pod> {
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
    way.disturb_times(
        2,
        |seen| seen.is_of("deployments"),
        crate::harness::api_server::Instead::Status(503),
    );
    way.disturb_times(
        2,
        |seen| seen.is_of("services"),
        crate::harness::api_server::Instead::Cut,
    );
    for name in ["twice-one", "twice-two"] {
        let mut cleanup = tp.cleanup(name).env("KUBECONFIG", way.kubeconfig()).spawn();
        assert_eq!(cleanup.ended().code(), Some(0));
    }
}
