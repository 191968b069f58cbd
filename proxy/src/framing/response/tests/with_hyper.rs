//! What hyper's client makes of guarded responses.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::super::super::handle::Expected;
use super::*;

struct Client {
    sender: http1::SendRequest<Empty<Bytes>>,
    handle: ResponseHandle,
    server: DuplexStream,
}

async fn connect() -> Client {
    let (near, server) = duplex(64 * 1024);
    let (guard, handle) = ResponseGuard::new(near, Limits::default());
    let mut builder = http1::Builder::new();
    let (sender, connection) = builder
        .max_headers(256)
        .handshake(TokioIo::new(guard))
        .await
        .unwrap();
    tokio::spawn(connection.with_upgrades());
    Client {
        sender,
        handle,
        server,
    }
}

impl Client {
    /// Sends a request, after which the server says `answer`.
    async fn ask(
        &mut self,
        expected: Expected,
        answer: &[u8],
    ) -> hyper::Result<http::Response<hyper::body::Incoming>> {
        let method = if expected == Expected::NoBody {
            Method::HEAD
        } else {
            Method::GET
        };
        let request = Request::builder()
            .method(method)
            .uri("/")
            .header("host", "a")
            .body(Empty::new())
            .unwrap();
        self.handle.expect(expected);
        let response = self.sender.send_request(request);
        let serve = async {
            let mut head = [0; 512];
            let len = self.server.read(&mut head).await.unwrap();
            assert!(head[..len].ends_with(b"\r\n\r\n"));
            self.server.write_all(answer).await.unwrap();
        };
        tokio::join!(response, serve).0
    }
}

#[tokio::test]
async fn a_refused_response_is_an_error_with_its_violation() {
    for case in corpus::responses() {
        let Verdict::Reject(violation) = case.verdict else {
            continue;
        };
        let mut client = connect().await;
        let answer = client.ask(case.expected, &case.bytes);
        let error = answer.await.expect_err(case.name);
        assert_eq!(Violation::of(&error), Some(violation), "{}", case.name);
    }
}

#[tokio::test]
async fn a_broken_body_is_an_error_with_its_violation() {
    let mut client = connect().await;
    let bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nx";
    let response = client.ask(Expected::Body, bytes).await.unwrap();
    let error = response.into_body().collect().await.unwrap_err();
    assert_eq!(Violation::of(&error), Some(Violation::ChunkSize));
}

#[tokio::test]
async fn interim_responses_are_passed_over() {
    let mut client = connect().await;
    let bytes = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
                  HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let response = client.ask(Expected::Body, bytes).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");
}

#[tokio::test]
async fn a_connection_is_used_again_after_each_kind_of_end() {
    let mut client = connect().await;
    let answers: [(Expected, &[u8]); 5] = [
        (Expected::Body, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        (Expected::NoBody, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"),
        (Expected::Body, b"HTTP/1.1 204 No Content\r\n\r\n"),
        (
            Expected::Body,
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: a\r\n\r\n",
        ),
        (Expected::Upgrade, b"HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n"),
    ];
    for (expected, answer) in answers {
        let response = client.ask(expected, answer).await.unwrap();
        response.into_body().collect().await.unwrap();
        client.sender.ready().await.unwrap();
    }
    assert_eq!(client.handle.violation(), None);
}

#[tokio::test]
async fn a_second_response_is_not_taken_for_the_next_answer() {
    let mut client = connect().await;
    let two =
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 Smuggled\r\nContent-Length: 0\r\n\r\n";
    let response = client.ask(Expected::Body, two).await.unwrap();
    response.into_body().collect().await.unwrap();
    assert_eq!(client.handle.violation(), Some(Violation::Unsolicited));
    assert!(client.sender.ready().await.is_err());
}

#[tokio::test]
async fn bytes_glued_to_a_101_are_not_lost() {
    let mut client = connect().await;
    let bytes = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n\0first";
    let response = client.ask(Expected::Upgrade, bytes).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut upgraded = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    client.server.write_all(b" second\n").await.unwrap();
    client.server.shutdown().await.unwrap();
    let mut all = Vec::new();
    upgraded.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"\0first second\n");
}
