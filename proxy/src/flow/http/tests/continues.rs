//! `Expect: 100-continue`.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::harness::{Plane, field, read_all, read_head, read_until, target};
use crate::testing::still;

const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: app\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

/// The clock stands still, so the word is the target's and not that of the timer.
#[tokio::test(start_paused = true)]
async fn the_application_sends_its_body_when_the_target_says_continue() {
    let address = target(|mut stream| async move {
        let head = read_head(&mut stream).await.unwrap();
        assert_eq!(field(&head, "Expect"), Some("100-continue"));
        stream.write_all(CONTINUE.as_bytes()).await?;
        read_until(&mut stream, b"hello").await.unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .await
    })
    .await;
    let mut app = Plane::to(address).start().await.connect().await;
    still(async {
        app.write_all(HEAD).await.unwrap();
        assert_eq!(read_head(&mut app).await.unwrap(), CONTINUE);
        app.write_all(b"hello").await.unwrap();
        assert!(read_head(&mut app).await.unwrap().starts_with("HTTP/1.1 200 "));
    })
    .await;
}

#[tokio::test]
async fn a_refusal_comes_before_the_body_and_without_continue() {
    for refusal in ["417 Expectation Failed", "401 Unauthorized"] {
        let address = target(move |mut stream| async move {
            read_head(&mut stream).await;
            stream
                .write_all(format!("HTTP/1.1 {refusal}\r\nContent-Length: 2\r\n\r\nno").as_bytes())
                .await?;
            assert_eq!(
                read_until(&mut stream, b"hello").await,
                None,
                "the body must not be sent"
            );
            Ok(())
        })
        .await;
        let mut app = Plane::to(address).start().await.connect().await;
        app.write_all(HEAD).await.unwrap();
        app.shutdown_after_answer(refusal).await;
    }
}

trait Refused {
    async fn shutdown_after_answer(&mut self, refusal: &str);
}

impl Refused for tokio::net::TcpStream {
    async fn shutdown_after_answer(&mut self, refusal: &str) {
        let head = read_head(self).await.unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {refusal}\r\n")), "{head}");
        assert_eq!(read_until(self, b"no").await.unwrap(), "no");
        self.shutdown().await.unwrap();
        assert_eq!(read_all(self).await, "");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_target_gets_the_body_after_a_second() {
    let asked = Arc::new(Notify::new());
    let arrived = Arc::clone(&asked);
    let address = target(move |mut stream| {
        let arrived = Arc::clone(&arrived);
        async move {
            read_head(&mut stream).await;
            arrived.notify_one();
            read_until(&mut stream, b"hello").await.unwrap();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .await
        }
    })
    .await;
    let mut app = Plane::to(address).start().await.connect().await;
    let started = Instant::now();
    still(async {
        app.write_all(HEAD).await.unwrap();
        asked.notified().await;
    })
    .await;
    assert_eq!(read_head(&mut app).await.unwrap(), CONTINUE);
    assert!(started.elapsed() >= Duration::from_secs(1));
    app.write_all(b"hello").await.unwrap();
    let head = still(read_head(&mut app)).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
}
