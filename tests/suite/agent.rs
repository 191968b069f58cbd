//! An agent as a process, with a real API server: what pods reach, who is refused, what lasts.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::agent::{BANK, Entrance, Node, Running, SHOP, STRANGER, exchange};
use crate::harness::api_server::{ApiServer, Instead};
use crate::harness::{node, wait};

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

fn to(destination: &str) -> Value {
    json!({"destinationRef": {"name": destination}})
}

fn to_everybody(destination: &str) -> Value {
    json!({"destinationRef": {"name": destination}, "accessControl": {"scope": "clusterWide"}})
}
