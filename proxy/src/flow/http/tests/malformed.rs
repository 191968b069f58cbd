//! What is no HTTP, from applications and from targets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::harness::{OK, Plane, answering, field, read_all, read_head, read_until, target};

/// The status and the message of the last answer to what was sent.
async fn refusal(sent: &[u8]) -> (String, String) {
    let (address, seen) = answering(OK).await;
    let plane = Plane::to(address).start().await;
    let mut app = plane.connect().await;
    app.write_all(sent).await.unwrap();
    let answer = read_all(&mut app).await;
    assert!(
        seen.lock().unwrap().is_empty(),
        "the target saw {:?}",
        seen.lock().unwrap()
    );
    assert_eq!(
        field(&answer, "x-error-origin"),
        Some("Transparent Proxy"),
        "{answer}"
    );
    assert_eq!(field(&answer, "connection"), Some("close"), "{answer}");
    let status = answer["HTTP/1.1 ".len()..][..3].to_owned();
    (status, field(&answer, "x-error-message").unwrap().to_owned())
}

#[tokio::test]
async fn ambiguous_requests_are_refused_with_a_reason() {
    let (status, message) = refusal(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    )
    .await;
    assert_eq!(status, "400");
    assert_eq!(
        message,
        "The request is not valid HTTP: both Content-Length and Transfer-Encoding."
    );
}

#[tokio::test]
async fn tls_is_told_to_use_http() {
    let hello = [&[0x16, 0x03, 0x01, 0x00, 0x05, 0x01][..], &[0; 64]].concat();
    let (status, message) = refusal(&hello).await;
    assert_eq!(
        (status.as_str(), message.as_str()),
        ("400", "TLS is not supported on this endpoint. Use http.")
    );
}

#[tokio::test]
async fn oversized_heads_are_refused_by_what_is_too_large() {
    let path = "x".repeat(70_000);
    assert_eq!(
        refusal(format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())
            .await
            .0,
        "414"
    );
    let fields = "X: y\r\n".repeat(300);
    assert_eq!(
        refusal(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes())
            .await
            .0,
        "431"
    );
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_turn_up_to_the_malformed_one() {
    let (address, seen) = answering(OK).await;
    let plane = Plane::to(address).start().await;
    let good = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let answers = plane
        .ask(&format!("{good}{good}GET / HTTP/1.1\r\nHost : a\r\n\r\n{good}"))
        .await;
    let statuses: Vec<_> = answers
        .match_indices("HTTP/1.1 ")
        .map(|(at, _)| &answers[at + 9..at + 12])
        .collect();
    assert_eq!(statuses, ["200", "200", "400"], "{answers}");
    assert_eq!(seen.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_malformed_chunk_never_becomes_a_complete_request() {
    let address = target(|mut stream| async move {
        read_head(&mut stream).await;
        let mut body = Vec::new();
        let _reset_or_end = stream.read_to_end(&mut body).await;
        assert!(!body.ends_with(b"0\r\n\r\n"), "{body:?}");
        Ok(())
    })
    .await;
    let request =
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\nzz\r\nmore\r\n0\r\n\r\n";
    let answer = Plane::to(address).start().await.ask(request).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(
        field(&answer, "x-error-message"),
        Some("The request is not valid HTTP: malformed chunk size.")
    );
}

#[tokio::test]
async fn an_ambiguous_response_is_refused_and_not_asked_for_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let address = target(move |mut stream| {
        let counter = Arc::clone(&counter);
        async move {
            while read_head(&mut stream).await.is_some() {
                let answer = match counter.fetch_add(1, Ordering::Relaxed) {
                    0 => OK,
                    _ => {
                        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
                    }
                };
                stream.write_all(answer.as_bytes()).await?;
            }
            Ok(())
        }
    })
    .await;
    let plane = Plane::to(address).start().await;
    assert!(plane.get("/").await.starts_with("HTTP/1.1 200 "));
    let answer = plane.get("/").await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_connection_with_bytes_that_nobody_asked_for_is_not_used_again() {
    let (address, seen) = answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
    )
    .await;
    let plane = Plane::to(address).start().await;
    let mut app = plane.connect().await;
    for _ in 0..3 {
        app.write_all(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
            .await
            .unwrap();
        let head = read_head(&mut app).await.unwrap();
        assert_eq!(field(&head, "Content-Length"), Some("2"), "{head}");
        assert_eq!(read_until(&mut app, b"ok").await.unwrap(), "ok");
    }
    assert_eq!((seen.lock().unwrap().len(), plane.dials()), (3, 3));
}
