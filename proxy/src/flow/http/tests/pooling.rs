//! Connections to targets: which are taken, which are given back, what is sent again.

use std::collections::HashSet;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::harness::{OK, Plane, Seen, answering, field, read_head, read_until, target};
use crate::connect::pool::Limits;
use crate::flow::http::Retry;
use crate::testing::still;

/// A target that closes after every answer, `delay` later and without a word.
async fn closing_after(delay: Duration) -> (std::net::SocketAddr, Seen) {
    let seen = Seen::default();
    let log = Arc::clone(&seen);
    let address = target(move |mut stream| {
        let log = Arc::clone(&log);
        async move {
            if let Some(head) = read_head(&mut stream).await {
                log.lock().unwrap().push(head);
                stream.write_all(OK.as_bytes()).await?;
                tokio::time::sleep(delay).await;
            }
            Ok(())
        }
    })
    .await;
    (address, seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_get_is_lost_when_the_target_closes_idle_connections() {
    for delay in [0, 1, 2, 5].map(Duration::from_millis) {
        let (address, _seen) = closing_after(delay).await;
        let plane = Plane::to(address).start().await;
        let mut app = plane.connect().await;
        for _ in 0..500 {
            get(&mut app).await;
        }
    }
}

/// A GET on a connection that stays open.
async fn get(app: &mut TcpStream) {
    app.write_all(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
        .await
        .unwrap();
    let head = read_head(app).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    read_until(app, b"ok").await.unwrap();
}

const TWO: NonZero<usize> = NonZero::new(2).unwrap();

#[tokio::test]
async fn a_worker_without_idle_connections_takes_those_of_others_and_in_time_opens_its_own() {
    let (address, _seen) = answering(OK).await;
    let plane = Plane::to(address).workers(TWO).start().await;
    // Both are open, so each is on a worker of its own.
    let mut apps = [plane.connect().await, plane.connect().await];
    for _ in 0..50 {
        get(&mut apps[0]).await;
        get(&mut apps[1]).await;
    }
    assert_eq!(plane.dials(), 1);
    for _ in 0..50 {
        get(&mut apps[0]).await;
        get(&mut apps[1]).await;
    }
    assert_eq!(plane.dials(), 2);
}

#[tokio::test]
async fn requests_on_all_workers_at_once_are_answered() {
    let (address, seen) = answering(OK).await;
    let plane = Plane::to(address).workers(TWO).start().await;
    let ask = async || {
        let mut app = plane.connect().await;
        for _ in 0..200 {
            get(&mut app).await;
        }
    };
    tokio::join!(ask(), ask(), ask(), ask());
    assert_eq!(seen.lock().unwrap().len(), 800);
    // At most four at once, on either of the workers.
    assert!(plane.dials() <= 8, "{}", plane.dials());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_post_runs_twice_when_the_target_closes_idle_connections() {
    const POSTS: usize = 300;
    for delay in [0, 1, 2, 5].map(Duration::from_millis) {
        let (address, seen) = closing_after(delay).await;
        let plane = Plane::to(address).start().await;
        let mut answered = 0;
        for number in 0..POSTS {
            let post = format!(
                "POST /{number} HTTP/1.1\r\nHost: app\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            );
            answered += usize::from(plane.ask(&post).await.starts_with("HTTP/1.1 200 "));
        }
        let seen = seen.lock().unwrap();
        let paths: HashSet<_> = seen.iter().map(|head| head.split(' ').nth(1)).collect();
        assert_eq!(paths.len(), seen.len(), "each ran at most once");
        assert!(answered > 0 && answered <= seen.len(), "{answered} were answered");
    }
}

#[tokio::test]
async fn a_post_is_not_sent_again_when_the_connection_is_lost() {
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&seen);
    let address = target(move |mut stream| {
        let counter = Arc::clone(&counter);
        async move {
            read_head(&mut stream).await;
            stream.write_all(OK.as_bytes()).await?;
            // The second request is read, and gets no answer.
            if read_head(&mut stream).await.is_some() {
                counter.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        }
    })
    .await;
    let plane = Plane::to(address).start().await;
    plane.get("/").await;
    let post = "POST / HTTP/1.1\r\nHost: app\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert!(plane.ask(post).await.starts_with("HTTP/1.1 502 "));
    assert_eq!((seen.load(Ordering::Relaxed), plane.dials()), (1, 1));
    plane.get("/").await;
    assert!(
        plane.get("/").await.starts_with("HTTP/1.1 200 "),
        "a GET is sent again"
    );
}

/// Moves only this test's clock.
async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_post_takes_a_pooled_connection_only_within_three_seconds_of_its_last_use() {
    let (address, _) = answering(OK).await;
    let plane = Plane::to(address).start().await;
    let post = "POST / HTTP/1.1\r\nHost: app\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    still(plane.ask(post)).await;
    pass(2).await;
    still(plane.ask(post)).await;
    assert_eq!(plane.dials(), 1);
    pass(4).await;
    still(plane.get("/")).await;
    assert_eq!(plane.dials(), 1, "a GET may have it");
    pass(4).await;
    still(plane.ask(post)).await;
    assert_eq!(plane.dials(), 2);
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_closed_before_servers_do_it() {
    let (address, _) = answering(OK).await;
    let plane = Plane::to(address).start().await;
    still(plane.get("/")).await;
    pass(40).await;
    still(plane.get("/")).await;
    assert_eq!(plane.dials(), 1);
    pass(51).await;
    still(plane.get("/")).await;
    assert_eq!(plane.dials(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_announced_idle_limit_counts_instead() {
    let (address, _) =
        answering("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=10\r\nContent-Length: 2\r\n\r\nok").await;
    let plane = Plane::to(address).start().await;
    let post = "POST / HTTP/1.1\r\nHost: app\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    still(plane.ask(post)).await;
    pass(8).await;
    still(plane.ask(post)).await;
    assert_eq!(plane.dials(), 1, "longer than three seconds");
    pass(10).await;
    still(plane.get("/")).await;
    assert_eq!(plane.dials(), 2, "shorter than fifty");
}

#[tokio::test]
async fn no_more_connections_wait_than_the_limit_allows() {
    let (address, _) = answering(OK).await;
    let plane = Plane::to(address)
        .limits(Limits {
            max_idle: 0,
            ..Limits::default()
        })
        .start()
        .await;
    plane.get("/").await;
    plane.get("/").await;
    assert_eq!(plane.dials(), 2);
}

#[tokio::test]
async fn ntlm_keeps_a_connection_to_the_target_for_one_connection_of_the_application() {
    let (address, _) = answering(
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nWWW-Authenticate: NTLM\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let plane = Plane::to(address).start().await;
    let mut first = plane.connect().await;
    let mut second = plane.connect().await;
    for _ in 0..3 {
        for app in [&mut first, &mut second] {
            app.write_all(b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 0\r\n\r\n")
                .await
                .unwrap();
            read_until(app, b"ok").await.unwrap();
        }
    }
    assert_eq!(plane.dials(), 2);
}

#[tokio::test]
async fn configured_repeats_follow_the_configuration() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let address = target(move |mut stream| {
        let counter = Arc::clone(&counter);
        async move {
            while read_head(&mut stream).await.is_some() {
                read_until(&mut stream, b"body").await;
                let status = if counter.fetch_add(1, Ordering::Relaxed) < 2 {
                    "503 Busy"
                } else {
                    "200 OK"
                };
                stream
                    .write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok").as_bytes())
                    .await?;
            }
            Ok(())
        }
    })
    .await;
    let retry = |max_retries| Retry {
        max_retries,
        status_codes: vec![StatusCode::SERVICE_UNAVAILABLE],
    };
    let post = "POST / HTTP/1.1\r\nHost: app\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody";
    let answer = Plane::to(address).retry(retry(1)).start().await.ask(post).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    asked.store(0, Ordering::Relaxed);
    let answer = Plane::to(address).retry(retry(3)).start().await.ask(post).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(asked.load(Ordering::Relaxed), 3);
    assert_eq!(field(&answer, "x-error-origin"), None);
}
