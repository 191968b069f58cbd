//! An agent that may not look any more.

use super::*;
use crate::harness::api_server::{Instead, Seen};

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_is_denied_is_marked_at_the_status_while_everything_known_is_served() {
    if !node::privileged() {
        return;
    }
    let (node, entrance) = node_with_destination(ApiServer::shared().await).await;
    let shop = node.shop.clone();
    node.pod_object(&shop, "app", SHOP).await;
    let agent = node.agent("agent-denied").fallback().start();
    let bad = || -> Vec<String> {
        let status = agent.status();
        let facts = status["facts"].as_array().expect("facts").clone();
        let bad = facts.into_iter().filter(|fact| fact["ok"] == false);
        bad.map(|fact| format!("{}: {}", fact["name"], fact["value"]))
            .collect()
    };
    assert_eq!(bad(), [""; 0]);
    node.way
        .disturb(|seen: &Seen| seen.is_of("destinations"), Instead::Status(403));
    node.way.cut_streams();
    wait::until("it is marked", || {
        bad() == [r#""watch of Destination resources": "a test answers 403""#]
    });
    assert!(node.ask(SHOP, entrance.port, "").ends_with("hello"));
    assert!(agent.ready());
    node.way.calm();
    wait::until("it is in order again", || bad().is_empty());
}
