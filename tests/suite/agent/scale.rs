//! What an agent costs in a large cluster.

use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use kube::Api;
use tests::memory::Memory;
use transparent_proxy::api::destination::Destination;

use super::*;
use crate::harness::large::{make, many};

/// In kB: 64 MiB without the program itself, which is larger here than in a release.
const LIMIT: u64 = 48 << 10;

/// As many destinations, each with a CR, a Service and a Secret, and pods, of which every
/// hundredth is on this node.
async fn fill(node: &Node, destinations: usize, pods: usize) {
    let shop = Api::namespaced(node.client.clone(), &node.shop);
    let crs: Api<Destination> = Api::namespaced(node.client.clone(), &node.shop);
    let web = node.web("hello");
    make::<Secret>(&node.in_installation(), destinations, |number| {
        json!({
            "metadata": {
                "name": format!("dest-{number}"),
                "labels": {"transparent-proxy.connectivity.api.sap/destination": ""},
            },
            "stringData": {
                "Type": "HTTP", "URL": web, "Authentication": "BasicAuthentication",
                "User": format!("user-{number}"), "Password": format!("s3cr3t-{number}"),
            },
        })
    })
    .await;
    make(&crs, destinations, |number| {
        json!({
            "apiVersion": "destination.connectivity.api.sap/v1",
            "kind": "Destination",
            "metadata": {"name": format!("dest-{number}")},
            "spec": {"destinationRef": {"name": format!("dest-{number}")}},
        })
    })
    .await;
    make::<Service>(&node.in_installation(), destinations, |number| {
        node.service(&format!("dest-{number}"), "http", 11_000 + number)
    })
    .await;
    make::<Pod>(&shop, pods, |number| {
        let on = if number % 100 == 0 { &node.name } else { "elsewhere" };
        json!({
            "metadata": {"name": format!("pod-{number}"), "labels": {"app": "app", "number": number.to_string()}},
            "spec": {"nodeName": on, "containers": [{"name": "app", "image": "app", "env": [
                {"name": "A", "value": "x".repeat(2_000)},
            ]}]},
        })
    })
    .await;
}

/// Starts an agent and prints what it costs.
fn measure(what: &str, agent: impl FnOnce() -> Running) -> (Running, Memory) {
    let begin = Instant::now();
    let running = agent();
    let took = begin.elapsed();
    let memory = Memory::of(running.id());
    println!("{what}: ready after {took:?}, {memory}");
    (running, memory)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_cluster_fits_into_64_mib() {
    let server = ApiServer::start().await;
    let (node, entrance) = node_with_destination(&server).await;
    let shop = node.shop.clone();
    let pod = node.pod(&shop, "app", SHOP).await;
    let (destinations, pods) = (many(1_000), many(10_000));
    fill(&node, destinations, pods).await;
    let quiet = json!({"level": "info"});
    let (agent, hooked) = measure(&format!("{destinations} destinations, with the hook"), || {
        node.agent("agent-large")
            .setting("logging", quiet.clone())
            .start()
    });
    let answer = pod.run(|| exchange(TcpStream::connect(entrance.virtual_address).unwrap(), ""));
    assert!(answer.ends_with("hello"), "{answer}");
    drop(agent);
    let (agent, fallback) = measure(
        &format!("{destinations} destinations and {pods} pods, fallback"),
        || {
            node.agent("agent-large")
                .setting("logging", quiet)
                .fallback()
                .start()
        },
    );
    let begin = Instant::now();
    for (number, port) in (0..destinations).zip(11_000..) {
        let answer = node.ask(SHOP, port, "");
        assert!(answer.ends_with("hello logged in"), "{number}: {answer}");
    }
    let used = Memory::of(agent.id());
    println!("each asked once, within {:?}: {used}", begin.elapsed());
    for memory in [hooked, fallback] {
        assert!(memory.anonymous <= LIMIT, "{memory}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_more_among_five_thousand_listeners_is_served() {
    let server = ApiServer::start().await;
    let (node, _) = node_with_destination(&server).await;
    let shop = node.shop.clone();
    let pod = node.pod(&shop, "app", SHOP).await;
    let destinations = many(5_000);
    fill(&node, destinations, 0).await;
    let quiet = json!({"level": "info"});
    let (_agent, _) = measure(&format!("{destinations} destinations, with the hook"), || {
        node.agent("agent-listeners").setting("logging", quiet).start()
    });
    let entrance = node.destination("one-more", to("backend"), "http").await;
    let took = time_until("one more is served", || {
        let stream = pod.run(|| TcpStream::connect(entrance.virtual_address));
        stream.is_ok_and(|stream| exchange(stream, "").ends_with("hello"))
    });
    println!("one more is served after {took:?}");
}
