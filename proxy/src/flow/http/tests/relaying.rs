//! What arrives at the target, what comes back.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;

use super::harness::{OK, Plane, answering, field, read_all, read_head, read_until, target};

#[tokio::test]
async fn a_request_arrives_with_credentials_and_without_what_is_the_proxys() {
    let (address, seen) = answering(OK).await;
    let plane = Plane::to(address).basic().start().await;
    let answer = plane
        .ask(
            "GET /a%2Fb?c HTTP/1.1\r\nHost: app\r\nX-CaSe: Kept\r\nConnection: close, Authorization\r\n\
             Proxy-Authorization: Basic x\r\nAuthorization: Basic app\r\nX-Tenant-Id: t\r\n\r\n",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nok"));
    assert!(
        answer.contains("x-request-id: ") || answer.contains("X-Request-Id: "),
        "{answer}"
    );
    let head = seen.lock().unwrap()[0].clone();
    let id = field(&head, "X-Request-Id").unwrap();
    assert_eq!(
        head,
        format!(
            "GET /a%2Fb?c HTTP/1.1\r\nHost: {address}\r\nX-CaSe: Kept\r\nX-Request-Id: {id}\r\n\
             Authorization: Basic dXNlcjpwZW5jaWw=\r\n\r\n"
        )
    );
}

#[tokio::test]
async fn names_of_response_fields_keep_their_case_and_their_number() {
    let (address, _) = answering(
        "HTTP/1.1 200 OK\r\nsEt-CookIe: a\r\nSet-Cookie: b\r\nX-Error-Origin: forged\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let answer = Plane::to(address).start().await.get("/").await;
    assert!(
        answer.contains("\r\nsEt-CookIe: a\r\nSet-Cookie: b\r\n"),
        "{answer}"
    );
    assert!(!answer.to_lowercase().contains("x-error-origin"));
}

#[tokio::test]
async fn requests_of_one_connection_share_one_connection_to_the_target() {
    let (address, seen) = answering(OK).await;
    let plane = Plane::to(address).start().await;
    let mut app = plane.connect().await;
    for _ in 0..5 {
        app.write_all(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
            .await
            .unwrap();
        read_until(&mut app, b"ok").await.unwrap();
    }
    assert_eq!(seen.lock().unwrap().len(), 5);
    assert_eq!(plane.dials(), 1);
}

#[tokio::test]
async fn a_head_request_keeps_the_length_it_asked_for() {
    let (address, _) = answering("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n").await;
    let plane = Plane::to(address).start().await;
    let mut app = plane.connect().await;
    for _ in 0..2 {
        app.write_all(b"HEAD / HTTP/1.1\r\nHost: app\r\n\r\n")
            .await
            .unwrap();
        let head = read_head(&mut app).await.unwrap();
        assert_eq!(field(&head, "Content-Length"), Some("1234"), "{head}");
    }
    assert_eq!(plane.dials(), 1);
}

#[tokio::test]
async fn an_http_1_0_application_gets_a_body_that_ends_with_the_connection() {
    let (address, _) =
        answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
            .await;
    let answer = Plane::to(address)
        .start()
        .await
        .ask("GET / HTTP/1.0\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nabcde"), "{answer}");
}

#[tokio::test]
async fn an_http_1_0_target_is_asked_in_http_1_1_every_time() {
    let (address, seen) =
        answering("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok").await;
    let plane = Plane::to(address).start().await;
    for _ in 0..2 {
        assert!(plane.get("/").await.starts_with("HTTP/1.1 200 OK\r\n"));
    }
    assert!(
        seen.lock()
            .unwrap()
            .iter()
            .all(|head| head.starts_with("GET / HTTP/1.1\r\n"))
    );
}

#[tokio::test]
async fn configured_fields_and_queries_are_added() {
    let (address, seen) = answering(OK).await;
    let plane = Plane::to(address)
        .header("x-added", "configured")
        .with(|http| {
            http.url.path = "/base/".to_owned();
            http.queries = crate::secret::Secret::from("q=1");
        })
        .start()
        .await;
    plane.get("/p?a").await;
    let head = seen.lock().unwrap()[0].clone();
    assert!(head.starts_with("GET /base/p?a&q=1 HTTP/1.1\r\n"), "{head}");
    assert_eq!(field(&head, "X-Added"), Some("configured"));
}

#[tokio::test]
async fn the_drain_closes_idle_connections() {
    let (address, _) = answering(OK).await;
    let plane = Plane::to(address).start().await;
    let mut idle = plane.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
        .await
        .unwrap();
    read_until(&mut idle, b"ok").await.unwrap();
    plane.drain.start();
    assert_eq!(read_all(&mut idle).await, "");
}

#[tokio::test]
async fn the_drain_lets_requests_finish_and_says_close() {
    let (asked, drained) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (is_asked, is_drained) = (Arc::clone(&asked), Arc::clone(&drained));
    let address = target(move |mut stream| {
        let (is_asked, is_drained) = (Arc::clone(&is_asked), Arc::clone(&is_drained));
        async move {
            read_head(&mut stream).await;
            is_asked.notify_one();
            is_drained.notified().await;
            stream.write_all(OK.as_bytes()).await
        }
    })
    .await;
    let plane = Plane::to(address).start().await;
    let mut app = plane.connect().await;
    app.write_all(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
        .await
        .unwrap();
    asked.notified().await;
    plane.drain.start();
    drained.notify_one();
    let answer = read_all(&mut app).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("ok"),
        "{answer}"
    );
    assert_eq!(field(&answer, "connection"), Some("close"), "{answer}");
}
