//! HTTP/2 on either side.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::server::WebPkiClientVerifier;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::harness::{OK, PATIENCE, Plane, answering, field, read_head, target};
use crate::flow::http::Retry;
use crate::resolve::destination::{HostnameVerifier, HttpDestination, Scheme, TlsPolicy};
use crate::resolve::keystore::CertificateStore;

type Body = http_body_util::combinators::BoxBody<Bytes, Infallible>;
type Requests = Arc<Mutex<Vec<(Version, String, HeaderMap)>>>;

/// A TLS server that speaks HTTP/2 and echoes bodies, with trailers.
async fn http2_target() -> (SocketAddr, Requests, CertificateStore) {
    tls_target(&[b"h2"], false).await
}

async fn tls_target(alpn: &[&[u8]], asks_for_certificate: bool) -> (SocketAddr, Requests, CertificateStore) {
    let (acceptor, store) = tls_acceptor(alpn, asks_for_certificate);
    let requests = Requests::default();
    let log = Arc::clone(&requests);
    let address = target(move |stream| {
        let (acceptor, log) = (acceptor.clone(), Arc::clone(&log));
        async move {
            let stream = acceptor.accept(stream).await?;
            let echo = service_fn(move |request| echo(request, Arc::clone(&log)));
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ended = server.serve_connection(TokioIo::new(stream), echo).await;
            Ok(())
        }
    })
    .await;
    (address, requests, store)
}

/// The server's side of TLS for `localhost`, and what to trust for it.
pub(super) fn tls_acceptor(alpn: &[&[u8]], asks_for_certificate: bool) -> (TlsAcceptor, CertificateStore) {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = key.cert.der().clone();
    let private = rustls_pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = if asks_for_certificate {
        config.with_client_cert_verifier(verifier.build().unwrap())
    } else {
        config.with_no_client_auth()
    };
    let mut config = config
        .with_single_cert(vec![certificate.clone()], private)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    (
        TlsAcceptor::from(Arc::new(config)),
        CertificateStore(vec![certificate]),
    )
}

async fn echo(request: Request<Incoming>, log: Requests) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    log.lock()
        .unwrap()
        .push((parts.version, parts.uri.to_string(), parts.headers));
    if parts.uri.path() == "/refused" {
        let refused = Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", "7");
        return Ok(refused.body(Full::default().boxed()).unwrap());
    }
    let body = body.collect().await.unwrap().to_bytes();
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
    let frames = futures_util::stream::iter([Ok(Frame::data(body)), Ok(Frame::trailers(trailers))]);
    Ok(Response::new(StreamBody::new(frames).boxed()))
}

pub(super) fn https(http: &mut HttpDestination, trust_store: CertificateStore) {
    http.url.scheme = Scheme::Https;
    http.url.host = "localhost".to_owned();
    http.url.authority = "localhost".parse().unwrap();
    http.tls = Some(Arc::new(TlsPolicy {
        trust_all: false,
        trust_store,
        hostname_verifier: HostnameVerifier::Strict,
        client_identity: None,
    }));
}

async fn http2_app(plane: &Plane) -> http2::SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(plane.address).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

fn grpc(path: &str) -> Request<Full<Bytes>> {
    Request::post(format!("http://app{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::from("message"))
        .unwrap()
}

#[tokio::test]
async fn grpc_passes_from_http2_to_http2_with_trailers() {
    let (address, requests, store) = http2_target().await;
    let plane = Plane::to(address)
        .basic()
        .with(|http| https(http, store))
        .start()
        .await;
    let mut app = http2_app(&plane).await;
    let response = app.send_request(grpc("/call")).await.unwrap();
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(collected.to_bytes(), "message");
    let (version, uri, headers) = requests.lock().unwrap()[0].clone();
    assert_eq!(
        (version, uri.as_str()),
        (Version::HTTP_2, "https://localhost/call")
    );
    assert_eq!(headers["te"], "trailers");
    assert!(headers["authorization"].as_bytes().starts_with(b"Basic "));
}

/// Where repeats are configured, short bodies are read before they are sent.
#[tokio::test]
async fn a_body_with_trailers_arrives_whole_where_repeats_are_configured() {
    let (address, requests, store) = http2_target().await;
    let retry = Retry {
        max_retries: 1,
        status_codes: Vec::new(),
    };
    let plane = Plane::to(address)
        .with(|http| https(http, store))
        .retry(retry)
        .start()
        .await;
    let stream = TcpStream::connect(plane.address).await.unwrap();
    let (mut app, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "7".parse().unwrap())]);
    let frames = [Frame::data(Bytes::from("message")), Frame::trailers(trailers)].map(Ok::<_, Infallible>);
    let request = Request::post("http://app/echo")
        .header("content-length", "7")
        .body(StreamBody::new(futures_util::stream::iter(frames)))
        .unwrap();
    let answer = app.send_request(request).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "message");
    let (_, _, headers) = requests.lock().unwrap()[0].clone();
    assert_eq!(headers["content-length"], "7");
}

#[tokio::test]
async fn a_grpc_answer_of_trailers_only_stays_one() {
    let (address, _, store) = http2_target().await;
    let plane = Plane::to(address).with(|http| https(http, store)).start().await;
    let response = http2_app(&plane)
        .await
        .send_request(grpc("/refused"))
        .await
        .unwrap();
    assert_eq!(response.headers()["grpc-status"], "7");
    assert!(
        hyper::body::Body::is_end_stream(response.body()),
        "no DATA frame may follow"
    );
}

#[tokio::test]
async fn a_failed_grpc_call_gets_a_grpc_status() {
    let address = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let plane = Plane::to(address).start().await;
    let response = http2_app(&plane).await.send_request(grpc("/call")).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["grpc-status"], "14");
    assert_eq!(response.headers()["content-type"], "application/grpc");
    assert_eq!(response.headers()["x-error-origin"], "Transparent Proxy");
}

#[tokio::test]
async fn an_http1_application_reaches_an_http2_target_over_one_connection() {
    let (address, requests, store) = http2_target().await;
    let plane = Plane::to(address).with(|http| https(http, store)).start().await;
    let asked = (0..10).map(|_| {
        plane.ask("POST /a HTTP/1.1\r\nHost: app\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi")
    });
    for answer in futures_util::future::join_all(asked).await {
        assert!(
            answer.starts_with("HTTP/1.1 200 ") && answer.contains("hi"),
            "{answer}"
        );
    }
    assert_eq!(plane.dials(), 1);
    assert!(
        requests
            .lock()
            .unwrap()
            .iter()
            .all(|(version, ..)| *version == Version::HTTP_2)
    );
}

#[tokio::test]
async fn an_http2_application_reaches_an_http1_target() {
    let (address, seen) = answering(OK).await;
    let plane = Plane::to(address).start().await;
    let mut app = http2_app(&plane).await;
    let request = Request::get("http://app/a?b").body(Full::default()).unwrap();
    let response = app.send_request(request).await.unwrap();
    assert!(response.headers().contains_key("x-request-id"));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");
    let head = seen.lock().unwrap()[0].clone();
    assert!(head.starts_with("GET /a?b HTTP/1.1\r\n"), "{head}");
    assert_eq!(field(&head, "Host"), Some(address.to_string().as_str()));
}

#[tokio::test]
async fn an_http2_application_may_ask_a_hundred_things_at_once() {
    let (address, _) = answering(OK).await;
    let plane = Plane::to(address).start().await;
    let stream = TcpStream::connect(plane.address).await.unwrap();
    let (mut app, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    let mut connection = std::pin::pin!(connection);
    let request = Request::get("http://app/")
        .body(Full::<Bytes>::default())
        .unwrap();
    tokio::select! {
        answer = app.send_request(request) => drop(answer.unwrap()),
        ended = connection.as_mut() => ended.unwrap(),
    }
    assert_eq!(connection.current_max_send_streams(), 100);
}

#[tokio::test]
async fn the_drain_tells_http2_applications_to_go() {
    let (address, _) = answering(OK).await;
    let plane = Plane::to(address).start().await;
    let mut app = http2_app(&plane).await;
    let request = || Request::get("http://app/").body(Full::default()).unwrap();
    app.send_request(request()).await.unwrap();
    plane.drain.start();
    let closed = async {
        while !app.is_closed() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, closed)
        .await
        .expect("GOAWAY closes the connection");
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_streams_is_told_to_go_after_a_minute() {
    let address = target(|mut stream| async move {
        while read_head(&mut stream).await.is_some() {}
        Ok(())
    })
    .await;
    let silence = Duration::from_secs(70);
    let plane = Plane::to(address).read_timeout(silence).start().await;
    let stream = TcpStream::connect(plane.address).await.unwrap();
    let (mut app, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let started = Instant::now();
    let request = Request::get("http://app/")
        .body(Full::<Bytes>::default())
        .unwrap();
    let answer = app.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 504, "silent streams are left alone");
    drop(answer);
    let ended = tokio::time::timeout(2 * PATIENCE, connection).await;
    ended.expect("GOAWAY ends the connection").unwrap().unwrap();
    let took = started.elapsed();
    assert!((130..132).contains(&took.as_secs()), "{took:?}");
}

#[tokio::test]
async fn a_missing_client_certificate_is_named_though_the_handshake_had_ended() {
    for alpn in [&b"h2"[..], b"http/1.1"] {
        let (address, _, store) = tls_target(&[alpn], true).await;
        let plane = Plane::to(address).with(|http| https(http, store)).start().await;
        let answer = plane.get("/").await;
        let message = "Failed to establish connection to the target system of destination 'backend'. \
                       TLS handshake failed: client certificate required or refused.";
        assert_eq!(field(&answer, "x-error-message"), Some(message), "{answer}");
    }
}

#[tokio::test]
async fn an_untrusted_certificate_is_refused() {
    let (address, requests, _) = http2_target().await;
    let plane = Plane::to(address)
        .with(|http| https(http, CertificateStore::default()))
        .start()
        .await;
    let answer = plane.get("/").await;
    assert!(
        answer.contains("TLS handshake failed: certificate not trusted."),
        "{answer}"
    );
    assert!(requests.lock().unwrap().is_empty());
}
