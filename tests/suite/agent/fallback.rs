//! Without the hook: connections to target ports, as kube-proxy brings them.

use super::*;
use crate::harness::account::{self, Account};

#[tokio::test(flavor = "multi_thread")]
async fn callers_are_known_by_their_addresses() {
    if !node::privileged() {
        return;
    }
    let server = ApiServer::shared().await;
    let (node, entrance) = node_with_destination(server).await;
    let (shop, bank) = (node.shop.clone(), node.bank.clone());
    node.pod_object(&shop, "app", SHOP).await;
    node.pod_object(&bank, "app", BANK).await;
    // With the rights that the chart gives, and no more.
    let account = Account::of_chart(server, &node.installation, account::PROXY).await;
    let agent = node
        .agent("agent-fallback")
        .fallback()
        .with_account(&account)
        .start();
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
    let log = agent.log();
    assert!(
        !log.iter().any(|line| line.to_string().contains("forbidden")),
        "{log:#?}"
    );
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

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_logged_with_the_names_that_operators_search_for() {
    if !node::privileged() {
        return;
    }
    let (node, entrance) = node_with_destination(ApiServer::shared().await).await;
    let (shop, bank) = (node.shop.clone(), node.bank.clone());
    node.pod_object(&shop, "app", SHOP).await;
    node.pod_object(&bank, "app", BANK).await;
    let http = node.destination("no-web", to("nothing"), "http").await.port;
    let tcp = node.destination("no-db", to("nothing"), "tcp").await.port;
    let agent = node.agent("agent-log").fallback().start();
    assert!(node.ask(SHOP, http, "").starts_with("HTTP/1.1 502"));
    let line = agent.line("the request is logged", |line| line["msg"] == "request failed");
    assert_eq!(line["cr"], format!("{shop}/no-web"));
    assert_eq!(
        (&line["origin"], &line["tenant"], &line["step"]),
        (
            &json!("Destination Service"),
            &json!("secrets"),
            &json!("resolve")
        )
    );
    assert!(line["request_id"].is_string(), "{line}");
    assert_eq!(node.ask(SHOP, tcp, ""), "");
    let line = agent.line("the connection is logged", |line| {
        line["cr"] == format!("{shop}/no-db") && line["level"] == "error"
    });
    assert!(line["conn_id"].is_u64(), "{line}");
    assert_eq!(node.ask(BANK, entrance.port, ""), "");
    let line = agent.line("the refusal is logged", |line| {
        line["msg"] == "connection refused"
    });
    assert!(line["conn_id"].is_u64(), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_says_how_long_each_step_took_and_status_how_many_are_open() {
    if !node::privileged() {
        return;
    }
    let (node, entrance) = node_with_destination(ApiServer::shared().await).await;
    let shop = node.shop.clone();
    node.pod_object(&shop, "app", SHOP).await;
    let agent = node.agent("agent-times").fallback().start();
    assert!(node.ask(SHOP, entrance.port, "").ends_with("hello"));
    let times = &agent.explain(&format!("{shop}/my-dest"))["times"];
    for step in ["caller", "connect", "answer"] {
        assert_eq!(times[step]["count"], 1, "{times}");
        assert!(times[step]["averageMilliseconds"].is_u64(), "{times}");
    }
    let status = agent.status();
    let facts = status["facts"].as_array().unwrap();
    for plane in ["HTTP connections", "TCP connections"] {
        let fact = facts.iter().find(|fact| fact["name"] == plane).unwrap();
        assert_eq!(fact["ok"], true, "{fact}");
        assert!(
            fact["value"].as_str().unwrap().contains(" open of at most "),
            "{fact}"
        );
    }
}

/// Without a sidecar nobody but the kubelet connects from there.
#[tokio::test(flavor = "multi_thread")]
async fn port_forward_is_let_in_unless_a_sidecar_is_in_the_pod() {
    if !node::privileged() {
        return;
    }
    let (node, entrance) = node_with_destination(ApiServer::shared().await).await;
    node.agent_pod(json!({})).await;
    let _agent = node.agent("agent-port-forward").fallback().start();
    assert!(node.ask_from_loopback(entrance.port).ends_with("hello"));
    node.annotate_agent_pod("linkerd.io/proxy-version", "edge").await;
    wait::until("it is not let in any more", || {
        node.ask_from_loopback(entrance.port).is_empty()
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_that_cannot_be_are_not_there() {
    if !node::privileged() {
        return;
    }
    let (node, _) = node_with_destination(ApiServer::shared().await).await;
    let agent = node.agent("agent-metrics").fallback().start();
    for name in ["tp_ebpf_attached", "tp_hook_effective"] {
        assert_eq!(agent.metric(9494, name), None, "an alert would never end");
    }
    let of_tcp = agent.page(9495, "/metrics").unwrap();
    assert!(of_tcp.contains("tp_tcp_connections_total"), "{of_tcp}");
    assert!(!of_tcp.contains("tp_received_requests"), "{of_tcp}");
    drop(agent);
    let agent = node
        .agent("agent-no-metrics")
        .fallback()
        .setting("metrics", json!({"enabled": false}))
        .start();
    for port in [9494, 9495] {
        assert_eq!(agent.page(port, "/metrics"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_over_the_limit_of_one_pod_are_counted() {
    if !node::privileged() {
        return;
    }
    let (node, entrance) = node_with_destination(ApiServer::shared().await).await;
    let shop = node.shop.clone();
    node.pod_object(&shop, "app", SHOP).await;
    let agent = node
        .agent("agent-limit")
        .fallback()
        .setting("limits", json!({"connectionsPerPod": 1}))
        .start();
    let mut first = node.connect(SHOP, entrance.port);
    first.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    expect(&mut first, "HTTP/1.1 200 OK");
    let answer = node.ask(SHOP, entrance.port, "");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    let sample = r#"tp_connections_refused_total{limit="per_source"}"#;
    assert_eq!(agent.metric(9494, sample), Some(1.0));
}
