//! Without the hook: connections to target ports, as kube-proxy brings them.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn callers_are_known_by_their_addresses() {
    if !node::privileged() {
        return;
    }
    let (node, entrance) = node_with_destination(ApiServer::shared().await).await;
    let (shop, bank) = (node.shop.clone(), node.bank.clone());
    node.pod_object(&shop, "app", SHOP).await;
    node.pod_object(&bank, "app", BANK).await;
    let agent = node.agent("agent-fallback").fallback().start();
    assert_eq!(agent.status()["hook"]["state"], "off");
    assert!(node.ask(SHOP, entrance.port, "").ends_with("hello"));
    assert_eq!(node.ask(BANK, entrance.port, ""), "");
    assert_eq!(node.ask(STRANGER, entrance.port, ""), "");
    for (caller, reason) in [
        (format!("{bank}/app"), "other_namespace"),
        ("an unknown address".to_owned(), "unknown_address"),
    ] {
        let line = agent.line("the refusal is logged", |line| line["caller"] == *caller);
        assert_eq!(line["reason"], reason);
        let sample = format!(r#"tp_scope_refused_total{{reason="{reason}",at="accept"}}"#);
        assert_eq!(agent.metric(9494, &sample), Some(1.0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_a_pod_has_left_is_nobodys() {
    if !node::privileged() {
        return;
    }
    let (node, entrance) = node_with_destination(ApiServer::shared().await).await;
    let shop = node.shop.clone();
    node.pod_object(&shop, "job", SHOP).await;
    let _agent = node.agent("agent-ended-pod").fallback().start();
    assert!(node.ask(SHOP, entrance.port, "").ends_with("hello"));
    node.end_pod(&shop, "job").await;
    wait::until("the address is unknown", || {
        node.ask(SHOP, entrance.port, "").is_empty()
    });
}
