//! Connections over TLS: who opens them, who shares them, who waits for whom.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::Response;
use http_body_util::Full;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::harness::{Builder, OK, PATIENCE, Plane, read_head, target};
use super::versions::{https, tls_acceptor};
use crate::resolve::keystore::CertificateStore;

/// What an HTTP/2 target does with its connections.
#[derive(Default)]
struct Script {
    max_streams: Option<u32>,
    /// So many connections answer nothing but `/`.
    silent: usize,
    /// A connection with so many requests at once closes instead of answering.
    closes_at: Option<usize>,
}

/// What it has seen.
#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    held: AtomicUsize,
    changed: Notify,
}

impl Seen {
    async fn held(&self, count: usize) {
        let reached = async {
            loop {
                let changed = self.changed.notified();
                if self.held.load(Ordering::Relaxed) >= count {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(PATIENCE, reached)
            .await
            .expect("so many requests at once");
    }

    fn hold(&self) {
        self.held.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_waiters();
    }
}

async fn http2_target(script: Script) -> (SocketAddr, CertificateStore, Arc<Seen>) {
    let (acceptor, store) = tls_acceptor(&[b"h2"], false);
    let seen = Arc::new(Seen::default());
    let (script, log) = (Arc::new(script), Arc::clone(&seen));
    let address = target(move |stream| {
        let (acceptor, script, seen) = (acceptor.clone(), Arc::clone(&script), Arc::clone(&log));
        async move {
            let stream = acceptor.accept(stream).await?;
            let number = seen.connections.fetch_add(1, Ordering::Relaxed);
            let is_silent = number < script.silent;
            let closes = script.closes_at.filter(|_| number == 0);
            let of_service = Arc::clone(&seen);
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let seen = Arc::clone(&of_service);
                async move {
                    if is_silent && request.uri().path() != "/" {
                        seen.hold();
                        std::future::pending::<()>().await;
                    }
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("ok"))))
                }
            });
            let mut server = http2::Builder::new(TokioExecutor::new());
            server.max_concurrent_streams(script.max_streams.unwrap_or(200));
            let serving = server.serve_connection(TokioIo::new(stream), service);
            match closes {
                Some(count) => tokio::select! {
                    _ended = serving => {}
                    () = seen.held(count) => {}
                },
                None => drop(serving.await),
            }
            Ok(())
        }
    })
    .await;
    (address, store, seen)
}

fn plane(address: SocketAddr, store: CertificateStore) -> Builder {
    Plane::to(address).with(|http| https(http, store))
}

fn is_ok(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 200 ")
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_has_gone_silent_gets_no_further_requests() {
    let script = Script {
        silent: 1,
        ..Script::default()
    };
    let (address, store, _seen) = http2_target(script).await;
    let plane = plane(address, store)
        .read_timeout(Duration::from_secs(7))
        .start()
        .await;
    assert!(plane.get("/a").await.starts_with("HTTP/1.1 504 "));
    let answer = plane.get("/a").await;
    assert!(is_ok(&answer), "{answer}");
    assert_eq!(plane.dials(), 2);
}

#[tokio::test]
async fn a_request_that_finds_all_streams_taken_opens_another_connection() {
    let script = Script {
        silent: 1,
        max_streams: Some(1),
        ..Script::default()
    };
    let (address, store, seen) = http2_target(script).await;
    let plane = plane(address, store).start().await;
    // With its answer has come what the server allows.
    assert!(is_ok(&plane.get("/").await));
    let mut first = plane.connect().await;
    first
        .write_all(b"GET /held HTTP/1.1\r\nHost: app\r\n\r\n")
        .await
        .unwrap();
    seen.held(1).await;
    let answer = tokio::time::timeout(Duration::from_secs(10), plane.get("/")).await;
    assert!(is_ok(&answer.expect("it does not wait for the first")));
    assert_eq!(plane.dials(), 2);
    assert!(is_ok(&plane.get("/").await));
    assert_eq!(plane.dials(), 2, "whose stream is free again");
}

#[tokio::test(start_paused = true)]
async fn there_are_as_many_connections_as_requests_need_and_not_without_end() {
    let script = Script {
        silent: usize::MAX,
        max_streams: Some(1),
        ..Script::default()
    };
    let (address, store, _seen) = http2_target(script).await;
    let plane = plane(address, store)
        .read_timeout(Duration::from_secs(7))
        .start()
        .await;
    assert!(is_ok(&plane.get("/").await));
    let answers = join_all((0..40).map(|_| plane.get("/held"))).await;
    assert!(answers.iter().all(|answer| answer.starts_with("HTTP/1.1 504 ")));
    assert_eq!(plane.dials(), 32);
}

#[tokio::test]
async fn all_requests_of_a_lost_connection_share_a_new_one() {
    const REQUESTS: usize = 50;
    let script = Script {
        silent: 1,
        closes_at: Some(REQUESTS),
        ..Script::default()
    };
    let (address, store, _seen) = http2_target(script).await;
    let plane = plane(address, store).start().await;
    let answers = join_all((0..REQUESTS).map(|_| plane.get("/held"))).await;
    assert!(answers.iter().all(|answer| is_ok(answer)), "{answers:?}");
    assert_eq!(plane.dials(), 2);
}

#[tokio::test(start_paused = true)]
async fn however_many_wait_for_a_target_that_never_shakes_hands_none_waits_longer_than_the_timeout() {
    let address = target(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
        Ok(())
    })
    .await;
    let plane = plane(address, CertificateStore::default())
        .with(|http| http.connect_timeout = Duration::from_secs(1))
        .start()
        .await;
    let started = Instant::now();
    for answer in join_all((0..10).map(|_| plane.get("/"))).await {
        assert!(
            answer.contains("did not accept the connection within 1 seconds"),
            "{answer}"
        );
    }
    let took = started.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn the_first_requests_to_a_slow_http1_target_do_not_wait_for_each_other() {
    const HANDSHAKE: Duration = Duration::from_secs(1);
    let (acceptor, store) = tls_acceptor(&[b"http/1.1"], false);
    let address = target(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            tokio::time::sleep(HANDSHAKE).await;
            let mut stream = acceptor.accept(stream).await?;
            read_head(&mut stream).await;
            stream.write_all(OK.as_bytes()).await?;
            stream.shutdown().await
        }
    })
    .await;
    let plane = plane(address, store).start().await;
    let started = Instant::now();
    let answers = join_all((0..10).map(|_| plane.get("/"))).await;
    assert!(answers.iter().all(|answer| is_ok(answer)), "{answers:?}");
    let took = started.elapsed();
    assert!(took < 3 * HANDSHAKE, "{took:?}");
}
