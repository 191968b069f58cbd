//! Whatever is asked to be logged, no secret is: TLS, HTTP/2 and a token call at trace level.

use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use transparent_proxy::accept::{self, Accepted, LimitsConfig};
use transparent_proxy::connect::direct::{self, Direct};
use transparent_proxy::connect::pool::{Limits, Pool};
use transparent_proxy::connect::tls::Authorities;
use transparent_proxy::credentials::TokenService;
use transparent_proxy::flow::http::{HttpMetrics, HttpParts, HttpService, HttpSettings, serve_connection};
use transparent_proxy::lifecycle::drain::Drain;
use transparent_proxy::resolve::destination::{Destination, Protocol};
use transparent_proxy::resolve::source::files::FileSource;
use transparent_proxy::telemetry::connections::{self, About, Connections};
use transparent_proxy::telemetry::logging;

const EVERYTHING: &str = "trace,h2=trace,hyper=trace,hyper_util=trace,rustls=trace,tokio_rustls=trace,\
    transparent_proxy=trace,transparent_proxy::access=trace";
const MARKER: &str = "S3CRET";

/// Speaks HTTP/1.1 and HTTP/2 over TLS: a token service at `/token`, the target elsewhere.
async fn server() -> SocketAddr {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .expect("a certificate with its key");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(serve(acceptor.clone(), tcp));
        }
    });
    address
}

async fn serve(acceptor: TlsAcceptor, tcp: TcpStream) {
    let stream = acceptor.accept(tcp).await.expect("a handshake");
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = server
            .serve_connection(TokioIo::new(stream), service_fn(answer))
            .await;
    } else {
        let server = hyper::server::conn::http1::Builder::new();
        let _ = server
            .serve_connection(TokioIo::new(stream), service_fn(answer))
            .await;
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let is_token_call = request.uri().path() == "/token";
    let is_http2 = request.version() == Version::HTTP_2;
    let authorization = request.headers().get("authorization").cloned();
    let sent = request.into_body().collect().await.expect("a body").to_bytes();
    let body = if is_token_call {
        assert!(sent.windows(MARKER.len()).any(|part| part == MARKER.as_bytes()));
        format!(r#"{{"access_token":"token-{MARKER}","token_type":"bearer","expires_in":3600}}"#)
    } else {
        let authorized = authorization.is_some_and(|value| value == format!("Bearer token-{MARKER}"));
        format!("authorized={authorized} http2={is_http2} {MARKER}")
    };
    let response = Response::builder().header("set-cookie", format!("session={MARKER}"));
    Ok(response.body(Full::from(body)).expect("a response"))
}

/// The plane before a destination of a file.
async fn plane(destination: &Destination) -> SocketAddr {
    let Protocol::Http(http) = &destination.protocol else {
        panic!("it is HTTP")
    };
    let dialer = Arc::new(Direct::new(direct::Config::default()));
    let parts = HttpParts {
        tokens: TokenService::new(dialer.clone(), Authorities::default()),
        dialer,
        pool: Pool::new(Limits::default()),
        settings: Arc::new(HttpSettings {
            access_log: true,
            ..HttpSettings::default()
        }),
        metrics: HttpMetrics::default(),
        behalf: None,
    };
    let service = Arc::new(HttpService::new(destination, http, parts).expect("usable"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let connections = Connections::default();
    tokio::spawn(async move {
        let drain = Drain::new();
        let limits = accept::Limits::new(LimitsConfig::default());
        let serve = move |accepted: Accepted| {
            let listed = connections.open(About {
                id: accepted.id,
                protocol: connections::HTTP,
                cr: None,
                destination: "everything".to_owned(),
                source: accepted.peer,
                target: "-".to_owned(),
            });
            let service = Arc::clone(&service);
            serve_connection(accepted, listed, move |_: &http::HeaderMap| {
                Ok(Arc::clone(&service))
            })
        };
        accept::serve(listener, limits, drain.watch(), serve).await;
    });
    address
}

#[tokio::test]
async fn no_secret_is_logged_at_any_level() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    logging::init(&logging::Config {
        level: EVERYTHING.to_owned(),
        output: logging::Output::File(log.clone()),
        ..logging::Config::default()
    })
    .expect("the first and only start of logging");

    let port = server().await.port();
    let file = folder.path().join("shop.yaml");
    let text = format!(
        "Name: shop\nType: HTTP\nURL: https://localhost:{port}/base\nProxyType: Internet\nTrustAll: true\n\
         Authentication: OAuth2ClientCredentials\ntokenServiceURL: https://localhost:{port}/token\n\
         clientId: client\nclientSecret: secret-{MARKER}\ntokenService.body.more: more-{MARKER}\n\
         URL.headers.x-key: key-{MARKER}\nURL.queries.api_key: query-{MARKER}\n"
    );
    fs::write(&file, text).expect("a destination file");
    let snapshot = FileSource::new(vec![file]).load(None);
    let problems: Vec<_> = snapshot.all_problems().collect();
    assert!(problems.is_empty(), "{problems:?}");
    let destination = snapshot.destinations[0].current().expect("it is good");

    let mut stream = TcpStream::connect(plane(destination).await)
        .await
        .expect("the plane");
    let body = format!("body-{MARKER}");
    let request = format!(
        "POST /path?q={MARKER} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nCookie: {MARKER}\r\n\
         X-Token: {MARKER}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut response = String::new();
    stream.read_to_string(&mut response).await.expect("answered");
    assert!(response.contains("authorized=true http2=true"), "{response}");

    let said = fs::read_to_string(log).expect("a log");
    assert!(
        said.contains("TRACE transparent_proxy") || said.contains("DEBUG transparent_proxy"),
        "{said}"
    );
    let leaks: Vec<_> = said.lines().filter(|line| line.contains(MARKER)).collect();
    assert!(leaks.is_empty(), "{leaks:#?}");
}
