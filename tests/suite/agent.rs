//! An agent as a process, with a real API server: what pods reach, who is refused, what lasts.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::agent::{BANK, Entrance, Node, Running, SHOP, STRANGER, exchange};
use crate::harness::api_server::{ApiServer, Instead};
use crate::harness::node::{self, Pod};
use crate::harness::wait;

mod authorities;
mod changes;
mod denied;
mod end;
mod fallback;
mod hooked;
mod keeper;
mod outage;
mod scale;

/// Reads from a stream until it has `text`.
fn expect(stream: &mut TcpStream, text: &str) {
    let mut read = vec![0; text.len()];
    stream.read_exact(&mut read).expect("an answer");
    assert_eq!(String::from_utf8_lossy(&read), text);
}

/// How long it takes until a condition holds.
fn time_until(what: &str, condition: impl FnMut() -> bool) -> Duration {
    let begin = Instant::now();
    wait::until(what, condition);
    begin.elapsed()
}

/// A node on which `my-dest` of the namespace `shop` leads to a server that says `hello`, with a
/// pod of that namespace.
async fn node_with_destination(server: &ApiServer) -> (Node, Entrance) {
    let node = Node::new(server).await;
    let web = node.web("hello");
    node.secret("backend", json!({"Type": "HTTP", "URL": web})).await;
    let entrance = node.destination("my-dest", to("backend"), "http").await;
    (node, entrance)
}

/// The same, with another destination `my-db` that is a TCP server which sends back what it gets, and
/// a pod of the namespace.
async fn node_with_database(server: &ApiServer) -> (Node, Pod, Entrance) {
    let (node, _) = node_with_destination(server).await;
    let pod = node.pod(&node.shop, "app", SHOP).await;
    node.secret("db", json!({"Type": "TCP", "Address": node.echo()}))
        .await;
    let entrance = node.destination("my-db", to("db"), "tcp").await;
    (node, pod, entrance)
}

/// An open connection over which something was said.
fn talk(pod: &Pod, address: SocketAddr) -> TcpStream {
    let mut stream = pod.run(|| TcpStream::connect(address)).unwrap();
    stream.write_all(b"hello").unwrap();
    expect(&mut stream, "hello");
    stream
}

fn to(destination: &str) -> Value {
    json!({"destinationRef": {"name": destination}})
}

fn to_everybody(destination: &str) -> Value {
    json!({"destinationRef": {"name": destination}, "accessControl": {"scope": "clusterWide"}})
}
