use std::net::SocketAddr;

use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::accept;
use crate::lifecycle::drain::Drain;
use crate::telemetry::connections::About;
use crate::telemetry::logging;

struct Server {
    address: SocketAddr,
    drain: Drain,
    readiness: Readiness,
    connections: Connections,
    log: LogControl,
    _log: Box<dyn std::any::Any>,
}

fn start() -> Server {
    start_at("127.0.0.1:0")
}

fn start_at(address: &str) -> Server {
    let listener = accept::bind(address.parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let (drain, readiness, connections) = (Drain::new(), Readiness::default(), Connections::default());
    let mut metrics = Metrics::new();
    metrics
        .scope("test")
        .register("things", "Things", Counter::<u64>::default());
    let (layer, log) = logging::detached("info");
    let admin = Admin {
        metrics: Arc::new(metrics),
        connections: connections.clone(),
        readiness: readiness.clone(),
        log: log.clone(),
        status: Box::new(|| Status {
            role: "run".into(),
            destinations: vec![DestinationRow {
                name: "<b>&".into(),
                virtual_ip: Some("127.66.0.1".into()),
                port: Some(80),
                r#type: Some("HTTP".into()),
                target: Some("https://example.com".into()),
                warnings: vec![],
            }],
            ..Status::default()
        }),
    };
    tokio::spawn(serve(listener, Arc::new(admin), drain.signal()));
    Server {
        address,
        drain,
        readiness,
        connections,
        log,
        _log: Box::new(layer),
    }
}

impl Server {
    async fn put_level(&self, level: &str, host: &str, more: &str) -> String {
        self.request(&format!(
            "PUT /log-level HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{more}content-length: {}\r\n\r\n{level}",
            level.len()
        ))
        .await
    }

    async fn request(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn get(&self, path: &str, accept: &str) -> String {
        self.request(&format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\naccept: {accept}\r\n\r\n"
        ))
        .await
    }
}

#[tokio::test]
async fn metrics_are_open_metrics() {
    let answer = start().get("/metrics", "*/*").await;
    assert!(
        answer.contains("content-type: application/openmetrics-text"),
        "{answer}"
    );
    assert!(answer.contains("tp_things_total{"), "{answer}");
    assert!(answer.ends_with("# EOF\n"), "{answer}");
}

#[tokio::test]
async fn metrics_are_prometheus_text_for_those_that_like_it_better() {
    let answer = start().get("/metrics", "text/plain;version=0.0.4").await;
    assert!(
        answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8"),
        "{answer}"
    );
    assert!(answer.contains("# TYPE tp_things_total counter\n"), "{answer}");
}

#[tokio::test]
async fn a_server_of_metrics_has_nothing_else() {
    let listener = accept::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let drain = Drain::new();
    tokio::spawn(metrics::serve(listener, Arc::default(), drain.signal()));
    let server = Server {
        address,
        drain,
        ..start()
    };
    assert!(server.get("/metrics", "*/*").await.ends_with("# EOF\n"));
    for path in ["/", "/status", "/healthz", "/log-level", "/debug/connections"] {
        let answer = server.get(path, "*/*").await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    }
    let answer = server.put_level("debug", "localhost", "").await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
}

#[tokio::test]
async fn the_status_is_json_for_tools_and_html_for_browsers() {
    let server = start();
    let json = server.get("/status", "*/*").await;
    let body: serde_json::Value = serde_json::from_str(json.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(
        (&body["phase"], &body["destinations"][0]["name"]),
        (&"ready".into(), &"<b>&".into())
    );
    let html = server
        .get("/status", "text/html,application/xhtml+xml,*/*;q=0.8")
        .await;
    assert!(html.contains("<td>&lt;b&gt;&amp;<td>127.66.0.1"), "{html}");
}

#[tokio::test]
async fn readiness_names_what_is_missing() {
    let server = start();
    let hook = server.readiness.latch("hook");
    let answer = server.get("/readyz", "*/*").await;
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("not ready: hook\n"),
        "{answer}"
    );
    assert!(
        server.get("/healthz", "*/*").await.starts_with("HTTP/1.1 200 "),
        "it lives"
    );
    drop(hook);
    assert!(server.get("/readyz", "*/*").await.ends_with("ready\n"));
}

#[tokio::test]
async fn a_draining_process_still_answers() {
    let server = start();
    server.drain.start();
    assert!(
        server
            .get("/readyz", "*/*")
            .await
            .ends_with("terminating but serving\n")
    );
    assert!(
        server
            .get("/status", "*/*")
            .await
            .contains(r#""phase": "draining""#)
    );
}

#[tokio::test]
async fn open_connections_are_listed() {
    let server = start();
    let source = SocketAddr::from(([127, 0, 0, 1], 4711));
    let _listed = server.connections.open(About {
        id: 1,
        protocol: "tcp",
        cr: None,
        destination: "db".into(),
        source,
        target: "db.example:5432".into(),
    });
    let json = server.get("/debug/connections", "*/*").await;
    assert!(
        json.contains(r#""source": "127.0.0.1:4711""#) && json.contains(r#""state": "dialling""#),
        "{json}"
    );
    assert!(
        server
            .get("/debug/connections", "text/html")
            .await
            .contains("<td>db.example:5432")
    );
}

#[tokio::test]
async fn only_reading_is_allowed() {
    let answer = start()
        .request("POST /status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await;
    assert!(
        answer.starts_with("HTTP/1.1 405 ") && answer.contains("allow: GET, HEAD"),
        "{answer}"
    );
}

#[tokio::test]
async fn the_log_level_changes_without_a_restart() {
    let server = start();
    for host in ["127.0.0.1:9090", "localhost", "[::1]:9090"] {
        let answer = server.put_level(" DEBUG\n", host, "").await;
        assert!(
            answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\ndebug\n"),
            "{answer}"
        );
    }
    let now = server.get("/log-level", "*/*").await;
    assert!(
        now.starts_with("HTTP/1.1 200 ") && now.ends_with("debug\n"),
        "{now}"
    );
}

#[tokio::test]
async fn what_is_no_level_changes_nothing() {
    let server = start();
    let long = "x".repeat(1000);
    for level in ["", "loud", "off", "h2=trace", "info,debug", &long] {
        let answer = server.put_level(level, "localhost", "").await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{level}: {answer}");
    }
    assert!(server.log.level().ends_with("info"), "{}", server.log.level());
}

#[tokio::test]
async fn web_pages_do_not_change_the_log_level() {
    let server = start();
    for (host, more) in [
        ("rebound.example", ""),
        ("127.0.0.1.example:9090", ""),
        ("localhost", "origin: http://localhost\r\n"),
    ] {
        let answer = server.put_level("trace", host, more).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{host}: {answer}");
    }
    let form =
        "POST /log-level HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 5\r\n\r\ntrace";
    assert!(server.request(form).await.starts_with("HTTP/1.1 405 "));
    assert!(server.log.level().ends_with("info"), "{}", server.log.level());
}

#[tokio::test]
async fn a_server_that_others_reach_does_not_change_the_log_level() {
    let server = start_at("0.0.0.0:0");
    let answer = server.put_level("trace", "127.0.0.1", "").await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(server.get("/log-level", "*/*").await.ends_with("info\n"));
}
