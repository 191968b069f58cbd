//! WebSocket and its kind.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::harness::{PATIENCE, Plane, field, read_all, read_head, read_until, target};

const ASK: &[u8] =
    b"GET /chat HTTP/1.1\r\nHost: app\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n";

#[tokio::test]
async fn bytes_flow_both_ways_after_the_switch_and_the_first_frame_is_not_lost() {
    let address = target(|mut stream| async move {
        let head = read_head(&mut stream).await.unwrap();
        assert_eq!(field(&head, "Connection"), Some("Upgrade"), "{head}");
        assert_eq!(field(&head, "Upgrade"), Some("websocket"));
        assert!(head.contains("Authorization: Basic "));
        stream
            .write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                  Sec-WebSocket-Accept: a\r\n\r\nfirst",
            )
            .await?;
        assert_eq!(read_until(&mut stream, b"ping").await.unwrap(), "glued-ping");
        stream.write_all(b"pong").await?;
        // The application has ended its half; ours still speaks.
        assert_eq!(stream.read(&mut [0; 1]).await?, 0);
        stream.write_all(b"last").await
    })
    .await;
    let plane = Plane::to(address).basic().start().await;
    let mut app = plane.connect().await;
    app.write_all(&[ASK, b"glued-"].concat()).await.unwrap();
    let head = read_head(&mut app).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert_eq!(field(&head, "Sec-WebSocket-Accept"), Some("a"));
    assert_eq!(field(&head, "Upgrade"), Some("websocket"));
    assert_eq!(read_until(&mut app, b"first").await.unwrap(), "first");
    plane.drain.start();
    app.write_all(b"ping").await.unwrap();
    assert_eq!(read_until(&mut app, b"pong").await.unwrap(), "pong");
    assert_eq!(plane.open(), (1, 1), "it is counted and listed like any other");
    app.shutdown().await.unwrap();
    assert_eq!(read_all(&mut app).await, "last");
    let closed = async {
        while plane.open() != (0, 0) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, closed)
        .await
        .expect("until it ends");
}

#[tokio::test]
async fn a_refusal_is_an_answer_like_any_other() {
    let address = target(|mut stream| async move {
        read_head(&mut stream).await;
        stream
            .write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
            .await?;
        read_head(&mut stream).await;
        Ok(())
    })
    .await;
    let plane = Plane::to(address).start().await;
    let mut app = plane.connect().await;
    for _ in 0..2 {
        app.write_all(ASK).await.unwrap();
        let head = read_head(&mut app).await.unwrap();
        assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
        assert_eq!(read_until(&mut app, b"no").await.unwrap(), "no");
    }
}
