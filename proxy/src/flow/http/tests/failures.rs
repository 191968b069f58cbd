//! Requests without an answer of the target.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::harness::{OK, Plane, answering, field, read_all, read_head, read_until, target};
use crate::testing::still;

#[tokio::test]
async fn a_refused_connection_is_a_502_with_all_fields_and_a_json_body() {
    let address = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let answer = Plane::to(address)
        .start()
        .await
        .ask("GET / HTTP/1.1\r\nHost: app\r\nX-Request-Id: r-1\r\nConnection: close\r\n\r\n")
        .await;
    let message =
        "Failed to establish connection to the target system of destination 'backend'. Connection refused.";
    assert!(answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{answer}");
    assert_eq!(field(&answer, "x-error-message"), Some(message));
    assert_eq!(field(&answer, "x-error-origin"), Some("Transparent Proxy"));
    assert_eq!(field(&answer, "x-proxy-server"), Some("Transparent Proxy"));
    assert_eq!(field(&answer, "x-request-id"), Some("r-1"));
    assert_eq!(field(&answer, "cache-control"), Some("no-store"));
    assert_eq!(field(&answer, "content-type"), Some("application/json"));
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({"error": {
            "status": 502, "message": message, "origin": "Transparent Proxy", "requestId": "r-1"
        }})
    );
}

#[tokio::test]
async fn an_error_for_head_has_no_body() {
    let address = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let plane = Plane::to(address).start().await;
    let answer = plane
        .ask("HEAD / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
        .await;
    assert!(
        answer.starts_with("HTTP/1.1 502 ") && answer.ends_with("\r\n\r\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn nonsense_and_early_ends_are_invalid_responses() {
    for nonsense in ["", "nonsense\r\n\r\n", "HTTP/1.1 200"] {
        let address = target(move |mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(nonsense.as_bytes()).await
        })
        .await;
        let answer = Plane::to(address).start().await.get("/").await;
        let message = "Invalid response from the target system of destination 'backend'.";
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        assert_eq!(
            field(&answer, "x-error-message"),
            Some(message),
            "after {nonsense:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_target_is_a_504_after_the_read_timeout() {
    let asked = Arc::new(Notify::new());
    let arrived = Arc::clone(&asked);
    let address = target(move |mut stream| {
        let arrived = Arc::clone(&arrived);
        async move {
            while read_head(&mut stream).await.is_some() {
                arrived.notify_one();
            }
            Ok(())
        }
    })
    .await;
    let plane = Plane::to(address)
        .read_timeout(Duration::from_secs(7))
        .start()
        .await;
    let mut app = plane.connect().await;
    still(async {
        app.write_all(b"GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        asked.notified().await;
    })
    .await;
    let started = Instant::now();
    let answer = read_all(&mut app).await;
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    assert_eq!(
        field(&answer, "x-error-message"),
        Some("The target system of destination 'backend' did not respond within 7 seconds.")
    );
    assert_eq!(started.elapsed().as_secs(), 7);
}

#[tokio::test(start_paused = true)]
async fn silence_in_the_middle_of_an_answer_aborts_it_but_slow_answers_live() {
    let more = Arc::new(Notify::new());
    let wanted = Arc::clone(&more);
    let address = target(move |mut stream| {
        let wanted = Arc::clone(&wanted);
        async move {
            read_head(&mut stream).await;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
                .await?;
            loop {
                wanted.notified().await;
                stream.write_all(b"x").await?;
            }
        }
    })
    .await;
    let plane = Plane::to(address)
        .read_timeout(Duration::from_secs(7))
        .start()
        .await;
    let mut app = plane.connect().await;
    still(async {
        app.write_all(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
            .await
            .unwrap();
        read_head(&mut app).await.unwrap();
    })
    .await;
    for _ in 0..3 {
        sleep(Duration::from_secs(5)).await;
        more.notify_one();
        assert_eq!(still(read_until(&mut app, b"x")).await.unwrap(), "x");
    }
    let last = Instant::now();
    assert_eq!(read_all(&mut app).await, "");
    assert_eq!(last.elapsed().as_secs(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_slow_application_does_not_use_up_the_targets_time() {
    let begun = Arc::new(Notify::new());
    let arrived = Arc::clone(&begun);
    let address = target(move |mut stream| {
        let arrived = Arc::clone(&arrived);
        async move {
            read_head(&mut stream).await;
            read_until(&mut stream, b"a\r\n").await;
            arrived.notify_one();
            read_until(&mut stream, b"0\r\n\r\n").await;
            stream.write_all(OK.as_bytes()).await
        }
    })
    .await;
    let plane = Plane::to(address)
        .read_timeout(Duration::from_secs(7))
        .start()
        .await;
    let mut app = plane.connect().await;
    still(async {
        app.write_all(b"POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
            .await
            .unwrap();
        begun.notified().await;
    })
    .await;
    sleep(Duration::from_secs(19)).await;
    app.write_all(b"0\r\n\r\n").await.unwrap();
    let head = still(read_head(&mut app)).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
}

#[tokio::test]
async fn connect_is_no_method_here() {
    let (address, _) = answering(OK).await;
    let answer = Plane::to(address)
        .start()
        .await
        .ask("CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert_eq!(field(&answer, "x-proxy-server"), Some("Transparent Proxy"));
}

#[tokio::test]
async fn repeated_control_fields_are_refused() {
    let (address, seen) = answering(OK).await;
    let answer = Plane::to(address)
        .start()
        .await
        .ask("GET / HTTP/1.1\r\nHost: a\r\nX-Tenant-Id: 1\r\nX-Tenant-Id: 2\r\nConnection: close\r\n\r\n")
        .await;
    assert_eq!(
        field(&answer, "x-error-message"),
        Some(
            "The following headers: [x-tenant-id] should be passed only once. Check your request parameters."
        )
    );
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_connection_without_a_byte_is_no_error() {
    let (address, _) = answering(OK).await;
    let plane = Plane::to(address).start().await;
    let mut app = plane.connect().await;
    app.shutdown().await.unwrap();
    assert_eq!(read_all(&mut app).await, "");
    let text = plane.scraped();
    assert!(text.contains("\nreceived_requests_total 0\n"), "{text}");
    assert!(!text.contains("request_errors_total{"), "{text}");
}

#[tokio::test]
async fn failures_are_counted_by_their_name() {
    let address = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let plane = Plane::to(address).start().await;
    plane.get("/").await;
    let text = plane.scraped();
    let line = "request_errors_total{destination=\"backend\",error=\"target_connection_refused\"} 1";
    assert!(text.contains(line), "{text}");
}
