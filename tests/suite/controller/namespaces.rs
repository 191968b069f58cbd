//! Which namespaces are managed, and by whom.

use super::*;

#[tokio::test]
async fn unmanaged_namespaces_are_ignored_completely() {
    let tp = Installation::new("ignored").await;
    let (shop, other) = (tp.managed("shop").await, tp.server.namespace("other").await);
    let _manager = tp.manager("ignored").start();
    tp.http("backend").await;
    // It is older, and would have the name if it counted.
    tp.cr(&other, "orders", "backend").await;
    tp.cr(&shop, "orders", "backend").await;
    tp.works(&shop, "orders").await;
    let cr = tp.crs(&other).get("orders").await.unwrap();
    assert_eq!(cr.status, None);
    assert!(tp.service(&other, "orders").await.is_none());
}

#[tokio::test]
async fn a_namespace_that_gets_or_loses_the_label_is_followed() {
    let tp = Installation::new("label").await;
    let shop = tp.server.namespace("shop").await;
    let _manager = tp.manager("label").start();
    tp.http("backend").await;
    tp.cr(&shop, "orders", "backend").await;
    tp.label(&shop, Some(&tp.namespace)).await;
    tp.works(&shop, "orders").await;
    let condition = tp.condition(&shop, "orders").await;
    for value in [Some("somebody-else"), None] {
        tp.label(&shop, value).await;
        tp.nothing_is_left().await;
        assert_eq!(tp.condition(&shop, "orders").await, condition, "it is left alone");
        tp.label(&shop, Some(&tp.namespace)).await;
        eventually("it is served again", || tp.service(&shop, "orders")).await;
    }
}

#[tokio::test]
async fn a_cr_whose_older_namesake_stops_being_managed_takes_over() {
    let tp = Installation::new("takeover").await;
    let (old, new) = (tp.managed("old").await, tp.managed("new").await);
    tp.http("backend").await;
    tp.cr(&old, "orders", "backend").await;
    eventually("a second has passed", || async {
        let cr = tp.crs(&old).get("orders").await.unwrap();
        let created = cr.metadata.creation_timestamp?.0;
        let age = created.duration_until(k8s_openapi::jiff::Timestamp::now());
        (age.as_secs() >= 2).then_some(())
    })
    .await;
    tp.cr(&new, "orders", "backend").await;
    let _manager = tp.manager("takeover").start();
    tp.works(&old, "orders").await;
    tp.becomes(&new, "orders", Reason::DuplicateCustomResource).await;
    tp.label(&old, None).await;
    tp.works(&new, "orders").await;
    tp.is_gone(&old, "orders").await;
}

#[tokio::test]
async fn installations_do_not_disturb_each_other() {
    let (one, two) = (Installation::new("one").await, Installation::new("two").await);
    let (shop, warehouse) = (one.managed("shop").await, two.managed("warehouse").await);
    let mut first = one.manager("one").start();
    let _second = two.manager("two").start();
    one.http("backend").await;
    two.http("backend").await;
    one.cr(&shop, "orders", "backend").await;
    two.cr(&warehouse, "orders", "backend").await;
    one.works(&shop, "orders").await;
    two.works(&warehouse, "orders").await;
    assert_eq!(one.made().await.len(), 2);
    two.remove(&warehouse, "orders").await;
    two.nothing_is_left().await;
    assert_eq!(one.made().await.len(), 2);
    // What one made, and has not removed yet, is a Service of somebody else for two.
    first.stop();
    two.label(&shop, Some(&two.namespace)).await;
    two.becomes(&shop, "orders", Reason::NameAlreadyPresent).await;
}

#[tokio::test]
async fn all_namespaces_are_managed_where_none_is_labelled() {
    let server = ApiServer::start().await;
    let tp = Installation::on(&server, "all").await;
    let (shop, other) = (server.namespace("shop").await, server.namespace("other").await);
    let _manager = tp
        .manager_with("all", &json!({"managedNamespacesMode": "all"}))
        .start();
    tp.http("backend").await;
    for (namespace, name) in [(&shop, "orders"), (&other, "payroll"), (&tp.namespace, "own")] {
        tp.cr(namespace, name, "backend").await;
        tp.works(namespace, name).await;
    }
    // Its name is taken by the API server's own Service.
    tp.cr("default", "kubernetes", "backend").await;
    tp.becomes("default", "kubernetes", Reason::NameAlreadyPresent)
        .await;
}

/// Without its controller nobody deletes what is in it, so the test does.
#[tokio::test]
async fn a_namespace_in_deletion_is_told_cleared_up_after_and_disturbs_nobody() {
    let tp = Installation::new("terminating").await;
    let (shop, other) = (tp.managed("shop").await, tp.managed("other").await);
    let _manager = tp.manager("terminating").start();
    tp.http("backend").await;
    tp.cr(&shop, "orders", "backend").await;
    tp.works(&shop, "orders").await;
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(tp.client.clone());
    namespaces.delete(&shop, &DeleteParams::default()).await.unwrap();
    tp.delete_service(&shop, "orders").await;
    let condition = tp.becomes(&shop, "orders", Reason::ServiceCreationFailed).await;
    let message = condition.message.unwrap();
    assert!(message.contains("being terminated"), "{message}");
    tp.cr(&other, "payroll", "backend").await;
    tp.works(&other, "payroll").await;
    tp.remove(&shop, "orders").await;
    tp.is_gone(&tp.namespace, "orders").await;
    tp.works(&other, "payroll").await;
}
