//! What changes while connections come.

use super::*;

/// Pods get new and changed destinations within seconds.
const NEW: Duration = Duration::from_secs(2);
const CHANGED: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_new_destination_and_a_changed_secret_are_there_in_time() {
    if !node::privileged() {
        return;
    }
    let (node, entrance) = node_with_destination(ApiServer::shared().await).await;
    let shop = node.shop.clone();
    node.pod_object(&shop, "app", SHOP).await;
    let _agent = node.agent("agent-changes").fallback().start();
    let another = node.destination("another", to("backend"), "http").await;
    let took = time_until("the new one is served", || {
        node.try_ask(SHOP, another.port)
            .is_some_and(|answer| answer.ends_with("hello"))
    });
    assert!(took < NEW, "{took:?}");
    let web = node.web("good bye");
    node.secret("backend", json!({"Type": "HTTP", "URL": web})).await;
    let took = time_until("the change is used", || {
        node.ask(SHOP, entrance.port, "").ends_with("good bye")
    });
    assert!(took < CHANGED, "{took:?}");
    node.no_secret("backend").await;
    wait::until("its absence is told", || {
        node.ask(SHOP, entrance.port, "")
            .contains("Destination 'backend' referred in Destination CR 'my-dest' is not found")
    });
    node.no_cr("another").await;
    wait::until("nobody listens any more", || {
        node.try_ask(SHOP, another.port).is_none()
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_serves_what_requests_name() {
    if !node::privileged() {
        return;
    }
    let (node, _) = node_with_destination(ApiServer::shared().await).await;
    let shop = node.shop.clone();
    node.pod_object(&shop, "app", SHOP).await;
    let port = node.destination("gateway", to("*"), "http").await.port;
    let _agent = node.agent("agent-gateway").fallback().start();
    assert!(
        node.ask(SHOP, port, "X-Destination-Name: backend\r\n")
            .ends_with("hello")
    );
    let answer = node.ask(SHOP, port, "X-Destination-Name: nothing\r\n");
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert!(answer.contains("x-error-origin: Destination Service"), "{answer}");
    assert!(node.ask(SHOP, port, "").starts_with("HTTP/1.1 400"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_narrower_scope_ends_what_others_have_open() {
    if !node::privileged() {
        return;
    }
    let (node, _) = node_with_destination(ApiServer::shared().await).await;
    let (shop, bank) = (node.shop.clone(), node.bank.clone());
    node.pod_object(&shop, "app", SHOP).await;
    node.pod_object(&bank, "app", BANK).await;
    node.secret("db", json!({"Type": "TCP", "Address": node.echo()}))
        .await;
    let port = node.destination("my-db", to_everybody("db"), "tcp").await.port;
    let agent = node.agent("agent-scope").fallback().start();
    let mut streams = [SHOP, BANK].map(|from| node.connect(from, port));
    for stream in &mut streams {
        stream.write_all(b"hello").unwrap();
        expect(stream, "hello");
    }
    node.cr("my-db", to("db")).await;
    let [own, foreign] = &mut streams;
    let ended = foreign.read(&mut [0]).unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::ConnectionReset);
    own.write_all(b"still here").unwrap();
    expect(own, "still here");
    agent.line("the end is logged", |line| line["result"] == "cut");
}

/// By hand, by mistake: whoever is connected notices nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_service_cuts_nothing_until_its_resource_is_deleted_too() {
    if !node::privileged() {
        return;
    }
    let (node, pod, entrance) = node_with_database(ApiServer::shared().await).await;
    let agent = node.agent("agent-no-service").start();
    let mut stream = talk(&pod, entrance.virtual_address);
    node.no_service("my-db").await;
    wait::until("nobody listens any more", || {
        node.try_connect(SHOP, entrance.port).is_err()
    });
    agent.line("it is not redirected any more", |line| {
        line["msg"] == "destination is not served any more"
    });
    stream.write_all(b"still here").unwrap();
    expect(&mut stream, "still here");
    node.no_cr("my-db").await;
    let ended = stream.read(&mut [0]).unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::ConnectionReset);
}

/// The port of a Service is a matter of the kernel's table alone.
#[tokio::test(flavor = "multi_thread")]
async fn another_port_of_the_service_cuts_nothing() {
    if !node::privileged() {
        return;
    }
    let (node, pod, entrance) = node_with_database(ApiServer::shared().await).await;
    let before = entrance.virtual_address;
    let _agent = node.agent("agent-port").start();
    let mut stream = talk(&pod, before);
    node.service_port("my-db", 8080).await;
    let after = std::net::SocketAddr::new(before.ip(), 8080);
    wait::until("the new port is served", || {
        pod.run(|| TcpStream::connect(after)).is_ok()
    });
    let refused = pod.run(|| TcpStream::connect(before)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    stream.write_all(b"still here").unwrap();
    expect(&mut stream, "still here");
}
