//! While the API server is away.

use super::*;

const BACK_WITHIN: Duration = Duration::from_secs(10);

/// A node whose `my-dest` needs no credential, while `secured` does.
async fn node_with_both(server: &ApiServer) -> (Node, Entrance, Entrance) {
    let (node, plain) = node_with_destination(server).await;
    let login = json!({
        "Type": "HTTP", "URL": node.web("welcome"), "Authentication": "BasicAuthentication",
        "User": "user", "Password": "s3cr3t-of-outage",
    });
    node.secret("login", login).await;
    let secured = node.destination("secured", to("login"), "http").await;
    (node, plain, secured)
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_served_and_an_agent_that_is_restarted_meanwhile_serves_what_it_may() {
    if !node::privileged() {
        return;
    }
    let server = ApiServer::start().await;
    let (node, plain, secured) = node_with_both(&server).await;
    let (shop, bank) = (node.shop.clone(), node.bank.clone());
    let own = node.pod(&shop, "app", SHOP).await;
    let foreign = node.pod(&bank, "app", BANK).await;
    let ask =
        |entrance: Entrance| own.run(|| exchange(TcpStream::connect(entrance.virtual_address).unwrap(), ""));
    let mut agent = node.agent("agent-outage").start();
    assert!(ask(plain).ends_with("hello"));
    assert!(ask(secured).ends_with("welcome logged in"));
    agent.line("what is known is written down", |line| {
        line["msg"] == "what is known was written down"
    });
    let written = std::fs::read_to_string(agent.folder().join("snapshot.json")).unwrap();
    assert!(
        !written.contains("s3cr3t") && !written.contains("Basic"),
        "{written}"
    );

    server.kill();
    assert!(ask(plain).ends_with("hello"));
    assert!(ask(secured).ends_with("welcome logged in"));
    assert!(agent.ready());

    agent.kill();
    let restarted = node.agent("agent-restarted").after(&agent).start();
    restarted.line("it says what it serves", |line| {
        line["msg"]
            .as_str()
            .is_some_and(|msg| msg.starts_with("the API server does not answer"))
    });
    assert!(ask(plain).ends_with("hello"));
    let answer = ask(secured);
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert!(
        answer.contains("Destination service is currently not available."),
        "{answer}"
    );
    let refused = foreign.run(|| TcpStream::connect(plain.virtual_address));
    let refused = refused.map(|stream| exchange(stream, ""));
    assert!(refused.as_ref().map_or(true, String::is_empty), "{refused:?}");

    server.restart().await;
    let took = time_until("all is served again", || {
        ask(secured).ends_with("welcome logged in")
    });
    assert!(took < BACK_WITHIN, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_api_server_stops_nothing_and_what_it_missed_is_made_up_for() {
    if !node::privileged() {
        return;
    }
    let server = ApiServer::start().await;
    let (node, entrance) = node_with_destination(&server).await;
    let shop = node.shop.clone();
    node.pod_object(&shop, "app", SHOP).await;
    let agent = node.agent("agent-frozen").fallback().start();
    node.way.hold();
    assert!(node.ask(SHOP, entrance.port, "").ends_with("hello"));
    let web = node.web("new");
    node.secret("backend", json!({"Type": "HTTP", "URL": web})).await;
    assert!(node.ask(SHOP, entrance.port, "").ends_with("hello"));
    assert!(agent.ready());
    node.way.cut_streams();
    node.way.release();
    let took = time_until("the change is used", || {
        node.ask(SHOP, entrance.port, "").ends_with("new")
    });
    assert!(took < BACK_WITHIN, "{took:?}");
}

/// Whoever has nothing to go by must not say that nothing is there.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_memory_an_agent_waits_for_the_api_server() {
    if !node::privileged() {
        return;
    }
    let server = ApiServer::start().await;
    let (node, entrance) = node_with_destination(&server).await;
    let shop = node.shop.clone();
    node.pod_object(&shop, "app", SHOP).await;
    node.way.hold();
    let mut agent = node.agent("agent-waits").fallback().spawn();
    agent.line("it waits", |line| line["msg"] == "waiting for the API server");
    assert!(agent.readiness().contains("not ready: what the API server knows"));
    node.way.release();
    wait::until("it is ready", || agent.ready());
    assert!(node.ask(SHOP, entrance.port, "").ends_with("hello"));
    node.way.hold();
    agent.ask_to_stop();
    assert_eq!(agent.ended().code(), Some(0));
}

/// Whoever calls from wherever is known by an address, also after a restart meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_fallback_that_is_restarted_meanwhile_knows_the_pods_of_all_nodes() {
    if !node::privileged() {
        return;
    }
    let server = ApiServer::start().await;
    let (node, entrance) = node_with_destination(&server).await;
    let (shop, bank) = (node.shop.clone(), node.bank.clone());
    node.pod_elsewhere(&shop, "app", SHOP).await;
    node.pod_elsewhere(&bank, "app", BANK).await;
    let meshed = json!({"annotations": {"sidecar.istio.io/status": "{}"}});
    node.agent_pod(meshed).await;
    let mut agent = node.agent("agent-outage-fallback").fallback().start();
    agent.line("what is known is written down", |line| {
        line["msg"] == "what is known was written down"
    });
    server.kill();
    agent.kill();
    let _restarted = node
        .agent("agent-fallback-restarted")
        .fallback()
        .after(&agent)
        .start();
    assert!(node.ask(SHOP, entrance.port, "").ends_with("hello"));
    assert_eq!(node.ask(BANK, entrance.port, ""), "");
    assert_eq!(node.ask(STRANGER, entrance.port, ""), "");
    assert_eq!(
        node.ask_from_loopback(entrance.port),
        "",
        "a sidecar is in the pod, so it may be anybody"
    );
}

/// It is there, so a memory does not count.
#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_denies_is_waited_for() {
    if !node::privileged() {
        return;
    }
    let (node, entrance) = node_with_destination(ApiServer::shared().await).await;
    let shop = node.shop.clone();
    node.pod_object(&shop, "app", SHOP).await;
    let mut agent = node.agent("agent-denied").fallback().start();
    agent.line("what is known is written down", |line| {
        line["msg"] == "what is known was written down"
    });
    agent.kill();
    node.way
        .disturb(|request| request.is_of("pods"), Instead::Status(403));
    let restarted = node.agent("agent-denied-again").fallback().after(&agent).spawn();
    let line = restarted.line("it says what it waits for", |line| {
        line["msg"]
            .as_str()
            .is_some_and(|msg| msg.starts_with("the API server denies"))
    });
    assert!(line["err"].as_str().unwrap().starts_with("Pods: "), "{line}");
    assert!(!restarted.ready());
    let answer = node.try_ask(SHOP, entrance.port);
    assert!(answer.as_deref().unwrap_or_default().is_empty(), "{answer:?}");
    node.way.calm();
    wait::until("it is ready", || restarted.ready());
    assert!(node.ask(SHOP, entrance.port, "").ends_with("hello"));
}

/// What it says counts more than what was known before.
#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_slow_is_waited_for() {
    if !node::privileged() {
        return;
    }
    let (node, entrance) = node_with_destination(ApiServer::shared().await).await;
    let (shop, bank) = (node.shop.clone(), node.bank.clone());
    node.pod_object(&shop, "app", SHOP).await;
    let mut agent = node.agent("agent-slow").fallback().start();
    agent.line("what is known is written down", |line| {
        line["msg"] == "what is known was written down"
    });
    agent.kill();
    node.end_pod(&shop, "app").await;
    node.pod_object(&bank, "new", SHOP).await;
    node.way.disturb(
        |request| request.is_of("pods") && !request.is_watch(),
        Instead::Late(Duration::from_secs(5)),
    );
    let restarted = node.agent("agent-slow-again").fallback().after(&agent).start();
    assert_eq!(
        node.ask(SHOP, entrance.port, ""),
        "",
        "it is somebody else's by now"
    );
    let said: Vec<Value> = restarted.log();
    assert!(
        said.iter()
            .any(|line| line["msg"] == "the API server has not told everything yet")
    );
}
