//! Bodies: streaming, back-pressure, trailers, early answers, ends that come too soon.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::harness::{PATIENCE, Plane, answering, field, read_all, read_head, read_until, target};

#[tokio::test]
async fn each_chunk_passes_at_once_in_both_directions() {
    let address = target(|mut stream| async move {
        read_head(&mut stream).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await?;
        while let Some(chunk) = read_until(&mut stream, b"1\r\nx\r\n").await {
            stream.write_all(chunk.as_bytes()).await?;
        }
        Ok(())
    })
    .await;
    let plane = Plane::to(address).start().await;
    let mut app = plane.connect().await;
    app.write_all(b"POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await
        .unwrap();
    app.write_all(b"1\r\nx\r\n").await.unwrap();
    read_head(&mut app).await.unwrap();
    read_until(&mut app, b"1\r\nx\r\n").await.unwrap();
    for _ in 0..3 {
        app.write_all(b"1\r\nx\r\n").await.unwrap();
        assert_eq!(read_until(&mut app, b"x\r\n").await.unwrap(), "1\r\nx\r\n");
    }
}

#[tokio::test]
async fn a_body_of_known_length_keeps_its_length() {
    let address = target(|mut stream| async move {
        let head = read_head(&mut stream).await.unwrap();
        assert_eq!(field(&head, "Content-Length"), Some("5"));
        assert_eq!(read_until(&mut stream, b"hello").await.unwrap(), "hello");
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await
    })
    .await;
    let request = "POST / HTTP/1.1\r\nHost: app\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello";
    let answer = Plane::to(address).start().await.ask(request).await;
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
}

#[tokio::test]
async fn a_get_with_a_chunked_body_keeps_its_body() {
    let address = target(|mut stream| async move {
        let head = read_head(&mut stream).await.unwrap();
        assert_eq!(field(&head, "Transfer-Encoding"), Some("chunked"), "{head}");
        assert_eq!(
            read_until(&mut stream, b"0\r\n\r\n").await.unwrap(),
            "2\r\nhi\r\n0\r\n\r\n"
        );
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await
    })
    .await;
    let request = "GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    let answer = Plane::to(address).start().await.ask(request).await;
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
}

#[tokio::test]
async fn trailers_pass_in_both_directions() {
    let address = target(|mut stream| async move {
        let head = read_head(&mut stream).await.unwrap();
        assert_eq!(field(&head, "TE"), Some("trailers"), "{head}");
        let body = read_until(&mut stream, b"\r\n\r\n").await.unwrap();
        assert_eq!(body.to_lowercase(), "1\r\na\r\n0\r\nx-up: 1\r\n\r\n");
        stream
            .write_all(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Down\r\n\r\n\
                  1\r\nb\r\n0\r\nX-Down: 2\r\n\r\n",
            )
            .await
    })
    .await;
    let answer = Plane::to(address)
        .start()
        .await
        .ask(
            "POST / HTTP/1.1\r\nHost: app\r\nConnection: close, TE\r\nTE: trailers\r\nTrailer: X-Up\r\n\
             Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Up: 1\r\n\r\n",
        )
        .await;
    assert!(
        answer
            .to_lowercase()
            .ends_with("1\r\nb\r\n0\r\nx-down: 2\r\n\r\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn an_early_answer_to_a_large_upload_reaches_the_application() {
    let address = target(|mut stream| async move {
        read_head(&mut stream).await;
        stream.read_exact(&mut [0; 1024]).await?;
        stream
            .write_all(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig")
            .await
        // Closing with unread data resets the connection.
    })
    .await;
    let plane = Plane::to(address).start().await;
    for _ in 0..20 {
        let mut app = plane.connect().await;
        app.write_all(b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 50000000\r\n\r\n")
            .await
            .unwrap();
        // As simple clients do: everything is sent before anything is read.
        app.write_all(&vec![b'x'; 50_000_000]).await.unwrap();
        let answer = read_all(&mut app).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert!(answer.ends_with("big"), "{answer}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_never_complete_for_the_application() {
    for (response, request) in [
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            "GET / HTTP/1.0\r\n\r\n",
        ),
    ] {
        let address = target(move |mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(response.as_bytes()).await
        })
        .await;
        let mut app = Plane::to(address).start().await.connect().await;
        app.write_all(request.as_bytes()).await.unwrap();
        let mut read = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, app.read_to_end(&mut read))
            .await
            .unwrap();
        let answer = String::from_utf8(read).unwrap();
        if request.contains("HTTP/1.0") {
            assert!(ended.is_err(), "the end of {answer:?} must be a reset");
        } else {
            assert!(
                !answer.ends_with("0\r\n\r\n") && !answer.contains("abcabc"),
                "{answer}"
            );
        }
    }
}

#[tokio::test]
async fn an_application_that_goes_away_cancels_its_request() {
    let (closed, mut was_closed) = mpsc::unbounded_channel();
    let address = target(move |mut stream| {
        let closed = closed.clone();
        async move {
            read_head(&mut stream).await;
            closed.send("asked").unwrap();
            let _end = stream.read(&mut [0; 16]).await;
            closed.send("closed").unwrap();
            Ok(())
        }
    })
    .await;
    let plane = Plane::to(address).start().await;
    let mut app = plane.connect().await;
    app.write_all(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(was_closed.recv().await, Some("asked"));
    drop(app);
    let ended = tokio::time::timeout(PATIENCE, was_closed.recv())
        .await
        .expect("the target is told");
    assert_eq!(ended, Some("closed"));
}

#[tokio::test]
async fn a_stalled_reader_holds_back_the_target() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let address = target(move |mut stream| {
        let counter = Arc::clone(&counter);
        async move {
            read_head(&mut stream).await;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
                .await?;
            let piece = vec![0; 1_000_000];
            for _ in 0..1000 {
                let written = tokio::time::timeout(Duration::from_millis(500), stream.write_all(&piece));
                match written.await {
                    Ok(written) => written?,
                    Err(_stalled) => break,
                }
                counter.fetch_add(1, Ordering::Relaxed);
            }
            counter.fetch_add(10_000, Ordering::Relaxed);
            Ok(())
        }
    })
    .await;
    let plane = Plane::to(address).start().await;
    let mut app = plane.connect().await;
    app.write_all(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
        .await
        .unwrap();
    read_head(&mut app).await.unwrap();
    let stalled = async {
        while sent.load(Ordering::Relaxed) < 10_000 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, stalled)
        .await
        .expect("the target stalls");
    // What fits into socket buffers, and little more.
    assert!(
        sent.load(Ordering::Relaxed) - 10_000 < 40,
        "{} MB sent",
        sent.load(Ordering::Relaxed) - 10_000
    );
}

#[tokio::test]
async fn a_large_body_passes_unharmed_both_ways() {
    const LENGTH: usize = 20_000_000;
    let address = target(|mut stream| async move {
        read_head(&mut stream).await;
        stream
            .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n").as_bytes())
            .await?;
        let (mut from, mut to) = stream.split();
        tokio::io::copy(&mut from, &mut to).await.map(drop)
    })
    .await;
    let plane = Plane::to(address).start().await;
    let sent: Vec<u8> = (0..LENGTH).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let mut app = plane.connect().await;
    app.write_all(format!("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: {LENGTH}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let (mut from, mut to) = app.split();
    let upload = to.write_all(&sent);
    let download = async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(from.read_u8().await.unwrap());
        }
        let mut received = vec![0; LENGTH];
        from.read_exact(&mut received).await.unwrap();
        received
    };
    let (uploaded, received) = tokio::join!(upload, download);
    uploaded.unwrap();
    assert!(received == sent);
}

#[tokio::test]
async fn a_failed_request_with_a_short_body_keeps_the_connection() {
    let (address, _) = answering(super::harness::OK).await;
    let plane = Plane::to(address).with(|http| http.url.port = 1).start().await;
    let mut app = plane.connect().await;
    for _ in 0..2 {
        app.write_all(b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 5\r\n\r\nhello")
            .await
            .unwrap();
        let head = read_head(&mut app).await.unwrap();
        assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
        let length: usize = field(&head, "content-length").unwrap().parse().unwrap();
        app.read_exact(&mut vec![0; length]).await.unwrap();
    }
}
