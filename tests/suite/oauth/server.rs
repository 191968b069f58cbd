//! `tests/peers/oidc/server.js`, for one test.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::harness::certs::{Authority, Identity};

/// Node takes a second on an idle machine.
const START: Duration = Duration::from_mins(1);

pub struct OidcServer {
    port: u16,
    tls_port: Option<u16>,
    /// Ends with its standard input, so even if this process is killed.
    _process: Child,
}

pub struct Tls<'a> {
    pub identity: &'a Identity,
    /// Whose clients are believed.
    pub authority: &'a Authority,
}

impl OidcServer {
    /// Its tokens live for `life` seconds.
    pub async fn start(life: u32, tls: Option<Tls<'_>>) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/oidc");
        assert!(
            folder.join("node_modules").exists(),
            "oidc-provider is not installed: run `cargo xtask test`, or `npm ci` in {}",
            folder.display()
        );
        let tls = tls.map(|tls| {
            json!({
                "cert": tls.identity.certificate_pem,
                "key": tls.identity.key_pem,
                "ca": tls.authority.certificate_pem,
            })
        });
        let settings = match tls {
            Some(tls) => json!({ "life": life, "tls": tls }),
            None => json!({ "life": life }),
        };
        let mut process = Command::new("node")
            .args(["server.js", &settings.to_string()])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("node starts");
        let output = process.stdout.take().expect("it is piped");
        let mut line = String::new();
        let read = timeout(START, BufReader::new(output).read_line(&mut line)).await;
        read.expect("the server starts in time")
            .expect("it says its ports");
        let ports: Value = serde_json::from_str(&line).expect("its ports as JSON");
        let port = |name: &str| ports[name].as_u64().and_then(|port| u16::try_from(port).ok());
        Self {
            port: port("port").expect("a port"),
            tls_port: port("tlsPort"),
            _process: process,
        }
    }

    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    pub fn token_url(&self) -> String {
        format!("http://{}/token", self.address())
    }

    pub fn tls_token_url(&self) -> String {
        format!(
            "https://127.0.0.1:{}/token",
            self.tls_port.expect("it was started with TLS")
        )
    }

    /// How many tokens it issued.
    pub async fn calls(&self) -> usize {
        let (_, body) = Check::connect(self).await.get("/calls", None).await;
        std::str::from_utf8(&body)
            .expect("a number")
            .parse()
            .expect("a number")
    }
}

/// A connection to the upstream in that server, which demands a good token.
pub struct Check(SendRequest<Empty<Bytes>>);

impl Check {
    pub async fn connect(server: &OidcServer) -> Self {
        Self::connect_to(server.address()).await
    }

    pub async fn connect_to(address: SocketAddr) -> Self {
        let tcp = TcpStream::connect(address).await.expect("the server listens");
        let (sender, connection) = handshake(TokioIo::new(tcp)).await.expect("HTTP/1.1");
        tokio::spawn(connection);
        Self(sender)
    }

    /// What the server thinks of that `Authorization`.
    pub async fn send(&mut self, authorization: HeaderValue) -> StatusCode {
        self.get("/check", Some(authorization)).await.0
    }

    async fn get(&mut self, path: &str, authorization: Option<HeaderValue>) -> (StatusCode, Bytes) {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = path.parse().expect("a path");
        request
            .headers_mut()
            .insert(header::HOST, HeaderValue::from_static("oidc"));
        request
            .headers_mut()
            .extend(authorization.map(|value| (header::AUTHORIZATION, value)));
        self.0.ready().await.expect("the connection is open");
        let response = self.0.send_request(request).await.expect("an answer");
        let status = response.status();
        (
            status,
            response.into_body().collect().await.expect("its body").to_bytes(),
        )
    }
}
