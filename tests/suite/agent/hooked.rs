//! With the hook: connections to virtual IPs.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_reaches_its_destination_and_a_foreign_one_is_refused_at_once() {
    if !node::privileged() {
        return;
    }
    let node = Node::new(ApiServer::shared().await).await;
    node.secret("backend", json!({"Type": "HTTP", "URL": node.web("hello")}))
        .await;
    let spec = json!({"destinationRef": {"name": "backend"}});
    let entrance = node.destination("my-dest", spec, "http").await;
    let (shop, bank) = (node.shop.clone(), node.bank.clone());
    let own = node.pod(&shop, "app", SHOP).await;
    let foreign = node.pod(&bank, "app", BANK).await;
    let agent = node.agent("agent-hooked").start();
    assert_eq!(agent.status()["hook"]["state"], "working", "{}", agent.status());
    let answer = own.run(|| exchange(TcpStream::connect(entrance.virtual_address).unwrap(), ""));
    assert!(answer.ends_with("hello"), "{answer}");
    let refused = foreign
        .run(|| TcpStream::connect(entrance.virtual_address))
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let line = agent.line("the refusal is logged", |line| {
        line["msg"] == "connection refused"
    });
    assert_eq!(line["caller"], format!("{bank}/app"));
    assert_eq!(line["cr"], format!("{shop}/my-dest"));
    assert_eq!(
        (&line["reason"], &line["at"]),
        (&json!("other_namespace"), &json!("connect"))
    );
    let sample = r#"tp_scope_refused_total{reason="other_namespace",at="connect"}"#;
    assert_eq!(agent.metric(9494, sample), Some(1.0));
}
