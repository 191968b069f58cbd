//! The end of an agent, alone and beside its successor.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_may_finish_and_nothing_is_redirected_any_more() {
    if !node::privileged() {
        return;
    }
    let (node, entrance) = node_with_destination(ApiServer::shared().await).await;
    let shop = node.shop.clone();
    let pod = node.pod(&shop, "app", SHOP).await;
    node.secret("db", json!({"Type": "TCP", "Address": node.echo()}))
        .await;
    let db = node.destination("my-db", to("db"), "tcp").await.virtual_address;
    let mut agent = node.agent("agent-end").start();
    let mut idle = pod.run(|| TcpStream::connect(entrance.virtual_address)).unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    expect(&mut idle, "HTTP/1.1 200 OK");
    let mut busy = talk(&pod, db);
    agent.ask_to_stop();
    agent.line("the hook is off", |line| {
        line["msg"] == "connections are no longer redirected"
    });
    // Nothing else leads to the virtual IP here.
    assert!(pod.run(|| TcpStream::connect(db)).is_err());
    assert!(
        agent.readiness().ends_with("terminating but serving\n"),
        "{}",
        agent.readiness()
    );
    assert!(
        node.ask(SHOP, entrance.port, "").ends_with("hello"),
        "others may still send for a while"
    );
    let mut rest = String::new();
    idle.read_to_string(&mut rest)
        .expect("an idle connection is closed in good order");
    busy.write_all(b"still here").unwrap();
    expect(&mut busy, "still here");
    assert!(!agent.has_ended());
    drop(busy);
    assert_eq!(agent.ended().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_connection_fails_while_one_agent_takes_over_from_another() {
    if !node::privileged() {
        return;
    }
    let server = ApiServer::shared().await;
    let (node, entrance) = node_with_destination(server).await;
    let shop = node.shop.clone();
    let pod = node.pod(&shop, "app", SHOP).await;
    let second = node.second_agent(server, "agent-second").await;
    let mut first = node.agent("agent-first").start();
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let client = pod.start(scope, || {
            while !stop.load(Ordering::Relaxed) {
                let stream = TcpStream::connect(entrance.virtual_address).expect("redirected");
                let answer = exchange(stream, "");
                assert!(answer.ends_with("hello"), "{answer}");
                asked.fetch_add(1, Ordering::Relaxed);
            }
        });
        let more = |number| {
            let now = asked.load(Ordering::Relaxed);
            wait::until("requests go on", || {
                client.is_finished() || asked.load(Ordering::Relaxed) >= now + number
            });
        };
        more(20);
        let second = second.start();
        more(20);
        first.ask_to_stop();
        first.ended();
        more(20);
        stop.store(true, Ordering::Relaxed);
        node::join(client);
        drop(second);
    });
}
