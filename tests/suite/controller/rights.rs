//! As the account that the chart makes, with the rights that it gives and no more.

use k8s_openapi::api::coordination::v1::Lease;

use super::*;
use crate::harness::account::{self, Account};

/// Lines about something that was not allowed.
fn denied(role: &Running) -> Vec<Value> {
    let mut lines = role.log();
    lines.retain(|line| line.to_string().contains("forbidden"));
    lines
}

#[tokio::test]
async fn the_manager_needs_no_more_than_what_the_chart_allows() {
    let mut tp = Installation::new("rights").await;
    let account = Account::of_chart(tp.server, &tp.namespace, account::MANAGER).await;
    tp.kubeconfig = account.instead_of(&tp.kubeconfig);
    let (shop, warehouse) = (tp.managed("shop").await, tp.managed("warehouse").await);
    let mut manager = tp.manager("rights").start();
    tp.http("backend").await;
    for (namespace, name) in [(&shop, "orders"), (&warehouse, "stock")] {
        tp.cr(namespace, name, "backend").await;
        tp.works(namespace, name).await;
    }
    let spoil = Patch::Merge(json!({"spec": {"externalName": "elsewhere.test"}}));
    let services = tp.services(&shop);
    let spoilt = services.patch("orders", &PatchParams::default(), &spoil).await;
    spoilt.expect("it is changed");
    eventually("the Service is as it was", || async {
        let external = services.get("orders").await.unwrap().spec?.external_name?;
        (external != "elsewhere.test").then_some(())
    })
    .await;
    tp.remove(&shop, "orders").await;
    tp.label(&warehouse, None).await;
    tp.nothing_is_left().await;
    assert_eq!(manager.stop().code(), Some(0));
    assert_eq!(denied(&manager), [Value::Null; 0]);
}

#[tokio::test]
async fn cleaning_up_needs_no_more_than_what_the_chart_allows() {
    let mut tp = Installation::new("clean-rights").await;
    let account = Account::of_chart(tp.server, &tp.namespace, account::CLEANUP).await;
    tp.kubeconfig = account.instead_of(&tp.kubeconfig);
    let shop = tp.managed("shop").await;
    tp.service_of_ours(&shop, "orders").await;
    tp.deploy_manager_on(&json!("node-1")).await;
    let lease: Lease =
        serde_json::from_value(json!({"metadata": {"name": "sap-transp-proxy-manager"}})).unwrap();
    let leases: Api<Lease> = Api::namespaced(tp.client.clone(), &tp.namespace);
    leases.create(&PostParams::default(), &lease).await.unwrap();
    tp.pods()
        .delete("sap-transp-proxy-manager", &DeleteParams::default())
        .await
        .unwrap();
    let mut cleanup = tp.cleanup("clean-rights").spawn();
    tp.nothing_is_left().await;
    assert_eq!(cleanup.ended().code(), Some(0));
    assert_eq!(leases.get_opt("sap-transp-proxy-manager").await.unwrap(), None);
    assert_eq!(denied(&cleanup), [Value::Null; 0]);
}
