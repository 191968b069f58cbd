//! The hook while an agent runs: whether it works, and what that means.

use transparent_proxy::datapath::foreign::Mode;
use transparent_proxy::datapath::foreign::testing::RefuseEverything;

use super::*;

/// The hook proves itself every minute, and is tried again soon after a failure.
const MINUTE: Duration = Duration::from_secs(90);

fn hook_metrics(agent: &Running) -> [Option<f64>; 2] {
    ["tp_ebpf_attached", "tp_hook_effective"].map(|name| agent.metric(9494, name))
}

/// So that an upgrade stops at the first node whose hook does not work.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_hook_is_attached_and_does_not_work_is_not_ready() {
    if !node::privileged() {
        return;
    }
    let (node, entrance) = node_with_destination(ApiServer::shared().await).await;
    let shop = node.shop.clone();
    node.pod_object(&shop, "app", SHOP).await;
    let in_front = RefuseEverything::attach(node.kubepods(), Mode::Multi).unwrap();
    let agent = node.agent("agent-ineffective").outside(&node).spawn();
    wait::until("it says why it is not ready", || {
        agent
            .readiness()
            .contains("not ready: the hook (the hook is attached, but does not work")
    });
    assert_eq!(hook_metrics(&agent), [Some(1.0), Some(0.0)]);
    let status = agent.status();
    assert_eq!(status["hook"]["state"], "failed");
    assert!(status["pending"].to_string().contains("the hook"), "{status}");
    assert!(
        node.ask(SHOP, entrance.port, "").ends_with("hello"),
        "it serves what comes by the Services"
    );
    drop(in_front);
    wait::until("it is ready", || agent.ready());
    assert_eq!(hook_metrics(&agent), [Some(1.0), Some(1.0)]);

    let in_front = RefuseEverything::attach(node.kubepods(), Mode::Multi).unwrap();
    wait::until_within(MINUTE, "it notices", || !agent.ready());
    assert_eq!(hook_metrics(&agent), [Some(1.0), Some(0.0)]);
    drop(in_front);
    wait::until("it is ready again", || agent.ready());
    assert_eq!(hook_metrics(&agent), [Some(1.0), Some(1.0)]);
}

/// There is nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn where_services_lead_to_the_agents_they_stay_ready() {
    if !node::privileged() {
        return;
    }
    let (node, entrance) = node_with_destination(ApiServer::shared().await).await;
    let shop = node.shop.clone();
    node.pod_elsewhere(&shop, "app", SHOP).await;
    let labels = json!({"transparent-proxy.connectivity.api.sap/fallback": "true"});
    node.agent_pod(json!({"labels": labels})).await;
    let _in_front = RefuseEverything::attach(node.kubepods(), Mode::Multi).unwrap();
    let agent = node.agent("agent-only-way").outside(&node).start();
    assert_eq!(hook_metrics(&agent), [Some(1.0), Some(0.0)]);
    assert!(
        node.ask(SHOP, entrance.port, "").ends_with("hello"),
        "pods of other nodes are known from the begin"
    );
    assert!(agent.status().to_string().contains("watch of Pods\""));
    agent.line("what is known is written down", |line| {
        line["msg"] == "what is known was written down"
    });
    let written = std::fs::read_to_string(agent.folder().join("snapshot.json")).unwrap();
    let written: Value = serde_json::from_str(&written).unwrap();
    assert_eq!(
        written["own"],
        json!({"pod": "agent-1", "meshed": false, "endpoint": true})
    );
    assert!(written["pods"].to_string().contains(&shop));
}

/// The kubelet, or somebody who repairs a node, may do that.
#[tokio::test(flavor = "multi_thread")]
async fn a_cgroup_that_is_made_again_is_hooked_again_within_a_minute() {
    if !node::privileged() {
        return;
    }
    let (node, entrance) = node_with_destination(ApiServer::shared().await).await;
    let shop = node.shop.clone();
    let agent = node.agent("agent-recreated").outside(&node).start();
    assert_eq!(hook_metrics(&agent), [Some(1.0), Some(1.0)]);
    node.make_kubepods_again();
    let pod = node.pod(&shop, "app", SHOP).await;
    wait::until_within(MINUTE, "connections are redirected again", || {
        let stream = pod.run(|| TcpStream::connect(entrance.virtual_address));
        stream.is_ok_and(|stream| exchange(stream, "").ends_with("hello"))
    });
    wait::until("the metrics follow", || {
        hook_metrics(&agent) == [Some(1.0), Some(1.0)]
    });
}
