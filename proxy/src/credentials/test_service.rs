//! A token service on 127.0.0.1 that answers as told and remembers what it was asked.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::connect::{self, Dialer};
use crate::resolve::destination::{OAuth2Client, Scheme, SocketOptions, TargetUrl};
use crate::secret::Secret;

/// What the service was asked.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) uri: String,
    pub(super) headers: http::HeaderMap,
    pub(super) body: String,
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

type Answers = dyn Fn(&Asked, usize) -> Response<Full<Bytes>> + Send + Sync;

pub(super) struct TestService {
    pub(super) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl TestService {
    /// `answers` gets what is asked and how many calls were before.
    pub(super) async fn start(
        answers: impl Fn(&Asked, usize) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(None, answers).await
    }

    pub(super) async fn start_with(
        tls: Option<ServerConfig>,
        answers: impl Fn(&Asked, usize) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let answers: Arc<Answers> = Arc::new(answers);
        let acceptor = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (seen, answers, acceptor) = (Arc::clone(&seen), Arc::clone(&answers), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        Some(acceptor) => match acceptor.accept(tcp).await {
                            Ok(stream) => serve(stream, seen, answers).await,
                            Err(_refused) => {}
                        },
                        None => serve(tcp, seen, answers).await,
                    }
                });
            }
        });
        Self { address, asked }
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no panic").clone()
    }

    pub(super) fn client(&self) -> OAuth2Client {
        client(Scheme::Http, self.address)
    }
}

async fn serve<S>(stream: S, seen: Arc<Mutex<Vec<Asked>>>, answers: Arc<Answers>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let (seen, answers) = (Arc::clone(&seen), Arc::clone(&answers));
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.expect("a body").to_bytes();
            let body = String::from_utf8(body.to_vec()).expect("a form");
            let asked = Asked {
                uri: head.uri.to_string(),
                headers: head.headers,
                body,
            };
            let before = {
                let mut seen = seen.lock().expect("no panic");
                seen.push(asked.clone());
                seen.len() - 1
            };
            Ok::<_, Infallible>(answers(&asked, before))
        }
    });
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// `client` with `secret` at a service on `address`, whose path is `/oauth/token`.
pub(super) fn client(scheme: Scheme, address: SocketAddr) -> OAuth2Client {
    OAuth2Client {
        token_service_url: TargetUrl {
            scheme,
            host: address.ip().to_string(),
            port: address.port(),
            authority: HeaderValue::from_str(&address.to_string()).expect("an authority"),
            path: "/oauth/token".to_owned(),
            query: None,
        },
        client_id: "client".to_owned(),
        client_secret: Some(Secret::from("secret")),
        token_service_user: None,
        credentials_in_body: true,
        scope: None,
        body: Vec::new(),
        headers: Vec::new(),
        queries: Secret::from(""),
        connect_timeout: Duration::from_secs(10),
        read_timeout: Duration::from_secs(10),
        tls: None,
    }
}

pub(super) fn json(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    *response.status_mut() = status;
    response
}

pub(super) fn token(token: &str) -> Response<Full<Bytes>> {
    json(
        StatusCode::OK,
        &format!(r#"{{"access_token":"{token}","token_type":"bearer","expires_in":3600}}"#),
    )
}

/// Connects to addresses, nothing else.
pub(super) struct Loopback;

impl Dialer for Loopback {
    fn dial<'a>(
        &'a self,
        host: &'a str,
        port: u16,
        _options: &'a SocketOptions,
        _timeout: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<TcpStream, connect::Error>> + Send + 'a>> {
        Box::pin(async move {
            let address = SocketAddr::new(host.parse().expect("an address"), port);
            TcpStream::connect(address).await.map_err(connect::Error::Refused)
        })
    }
}
