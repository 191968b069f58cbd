//! Other protocols that applications speak through a destination: `PostgreSQL`, WebSocket, gRPC, large bodies.

use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::harness::certs::Authority;
use crate::harness::postgres::Postgres;
use crate::harness::proxy::Proxy;
use crate::harness::{binary, peers, wait};

const USER: &str = "ada";
const PASSWORD: &str = "s3cr3t-apps";
/// base64 of `ada:s3cr3t-apps`
const AUTHORIZATION: &str = "Basic YWRhOnMzY3IzdC1hcHBz";

/// A server of `tests/peers/node` that prints its port.
struct NodePeer {
    child: Child,
    port: String,
}

impl NodePeer {
    fn start(script: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new("node")
            .arg(script_path(script))
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("node starts");
        let port = wait::first_line(child.stdout.take().expect("its output is piped"));
        Self { child, port }
    }
}

impl Drop for NodePeer {
    fn drop(&mut self) {
        wait::terminate(&mut self.child);
    }
}

fn script_path(script: &str) -> String {
    binary::tests_folder()
        .join("peers/node")
        .join(script)
        .display()
        .to_string()
}

#[test]
fn psql_works_through_a_tcp_destination() {
    let server = Postgres::start("s3cr3t-postgres");
    let proxy = Proxy::for_test("psql").destination(
        "my-db",
        json!({ "Type": "TCP", "Address": server.address.to_string(), "ProxyType": "Internet" }),
    );
    let query = "select sum(n) from generate_series(1, 100000) n";
    let program = peers::path("psql").display().to_string();
    let psql = [
        "env",
        "PGPASSWORD=s3cr3t-postgres",
        &program,
        "-h",
        "my-db",
        "-p",
        "20004",
    ];
    let output = proxy.output_of(&[&psql[..], &["-U", "ada", "-d", "postgres", "-Atc", query]].concat());
    assert_eq!(output, "5000050000\n");
}

#[test]
fn a_websocket_is_upgraded_with_the_injected_credential() {
    let server = NodePeer::start("websocket-server.mjs", &[AUTHORIZATION]);
    let proxy = Proxy::for_test("websocket").destination(
        "my-ws",
        json!({
            "Type": "HTTP", "URL": format!("http://127.0.0.1:{}", server.port), "ProxyType": "Internet",
            "Authentication": "BasicAuthentication", "User": USER, "Password": PASSWORD,
        }),
    );
    let output = proxy.output_of(&["node", &script_path("websocket-client.mjs"), "ws://my-ws/"]);
    assert_eq!(
        output,
        "text welcome\ntext ping\nbinary 1048576 true\nclosed 1000\n"
    );
}

#[test]
fn a_refused_websocket_upgrade_reaches_the_application() {
    let server = NodePeer::start("websocket-server.mjs", &[AUTHORIZATION]);
    let proxy = Proxy::for_test("websocket-refused").destination(
        "my-ws",
        json!({
            "Type": "HTTP", "URL": format!("http://127.0.0.1:{}", server.port), "ProxyType": "Internet",
            "Authentication": "NoAuthentication",
        }),
    );
    let output = proxy.run(&["node", &script_path("websocket-client.mjs"), "ws://my-ws/"]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "error Unexpected server response: 401\n"
    );
}

#[test]
fn grpc_calls_pass_with_their_trailers_and_their_failures() {
    let authority = Authority::new();
    let files = tempfile::tempdir().expect("a folder");
    let identity = authority.server(&["localhost"]).write(files.path(), "server");
    let server = NodePeer::start(
        "grpc-server.mjs",
        &[
            &identity.certificate.display().to_string(),
            &identity.key.display().to_string(),
            AUTHORIZATION,
        ],
    );
    let proxy = Proxy::for_test("grpc").trusting(&authority).destination(
        "my-grpc",
        json!({
            "Type": "HTTP", "URL": format!("https://localhost:{}", server.port), "ProxyType": "Internet",
            "Authentication": "BasicAuthentication", "User": USER, "Password": PASSWORD,
            "TrustStoreLocation": "ca.crt",
        }),
    );
    let output = proxy.output_of(&["node", &script_path("grpc-client.mjs"), "my-grpc:80"]);
    assert_eq!(
        output,
        "echo hello trailer=seen\nfail status 9 not today\nstream one,two,three\n"
    );
}
