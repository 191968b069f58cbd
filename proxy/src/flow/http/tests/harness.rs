//! An application, the plane and a target, all on 127.0.0.1.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::accept::{self, Accepted, LimitsConfig};
use crate::connect::pool::{Limits, Pool};
use crate::connect::tls::Authorities;
use crate::connect::{self, Dialer};
use crate::credentials::{Authenticator, Injection, TokenService};
use crate::flow::http::{HttpMetrics, HttpParts, HttpSettings, Lazy, Resolve, Retry, serve_connection};
use crate::lifecycle::drain::Drain;
use crate::lifecycle::workers::Workers;
use crate::resolve::destination::{
    Authentication, Destination, DestinationName, HttpDestination, Protocol, Scheme, SocketOptions,
    TargetUrl, Version,
};
use crate::secret::Secret;
use crate::telemetry::connections::{self, About, Connections};

/// Nothing in these tests takes this long, paused clocks included.
pub(super) const PATIENCE: Duration = Duration::from_mins(2);

pub(in crate::flow::http) fn http_destination(host: &str, port: u16) -> HttpDestination {
    HttpDestination {
        url: TargetUrl {
            scheme: Scheme::Http,
            host: host.to_owned(),
            port,
            authority: HeaderValue::try_from(format!("{host}:{port}")).unwrap(),
            path: String::new(),
            query: None,
        },
        authentication: Authentication::NoAuthentication,
        headers: Vec::new(),
        queries: Secret::from(""),
        connect_timeout: Duration::from_secs(5),
        read_timeout: Duration::from_secs(30),
        tls: None,
    }
}

/// What a destination with this authentication injects.
pub(in crate::flow::http) fn injection(authentication: Authentication) -> Injection {
    let destination = HttpDestination {
        authentication,
        ..http_destination("target", 80)
    };
    let tokens = TokenService::new(Arc::new(TestDialer(Arc::default())), Authorities::default());
    let name = DestinationName::new_unchecked("backend");
    Authenticator::new(&name, &destination, &tokens)
        .unwrap()
        .ready()
        .expect("credentials without a token")
}

struct TestDialer(Arc<AtomicUsize>);

impl Dialer for TestDialer {
    fn dial<'a>(
        &'a self,
        host: &'a str,
        port: u16,
        _options: &'a SocketOptions,
        _timeout: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<TcpStream, connect::Error>> + Send + 'a>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let stream = TcpStream::connect((host, port))
                .await
                .map_err(connect::Error::Refused)?;
            stream.set_nodelay(true).map_err(connect::Error::Io)?;
            Ok(stream)
        })
    }
}

/// The plane, serving one destination.
pub(super) struct Plane {
    pub address: SocketAddr,
    pub drain: Drain,
    pub metrics: HttpMetrics,
    limits: Arc<accept::Limits>,
    connections: Connections,
    dials: Arc<AtomicUsize>,
}

pub(super) struct Builder {
    destination: HttpDestination,
    settings: HttpSettings,
    limits: Limits,
    workers: Option<Workers>,
}

impl Plane {
    pub(super) fn to(target: SocketAddr) -> Builder {
        Builder {
            destination: http_destination("127.0.0.1", target.port()),
            settings: HttpSettings::default(),
            limits: Limits::default(),
            workers: None,
        }
    }

    pub(super) async fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Sends one request on a connection of its own and reads until the plane closes.
    pub(super) async fn ask(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        read_all(&mut stream).await
    }

    pub(super) async fn get(&self, path: &str) -> String {
        self.ask(&format!(
            "GET {path} HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n"
        ))
        .await
    }

    /// The metrics as text.
    pub(super) fn scraped(&self) -> String {
        let mut text = String::new();
        let mut registry = prometheus_client::registry::Registry::default();
        self.metrics.register(&mut registry);
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    /// How many connections of applications are counted, and how many are listed.
    pub(super) fn open(&self) -> (usize, usize) {
        (self.limits.open(), self.connections.len())
    }

    /// How many connections to the target were opened.
    pub(super) fn dials(&self) -> usize {
        self.dials.load(Ordering::Relaxed)
    }
}

impl Builder {
    pub(super) fn with(mut self, change: impl FnOnce(&mut HttpDestination)) -> Self {
        change(&mut self.destination);
        self
    }

    pub(super) fn basic(self) -> Self {
        self.with(|http| {
            http.authentication = Authentication::Basic {
                user: "user".to_owned(),
                password: Secret::from("pencil"),
            };
        })
    }

    pub(super) fn header(self, name: &str, value: &str) -> Self {
        let field = (
            HeaderName::try_from(name).unwrap(),
            HeaderValue::try_from(value).unwrap(),
        );
        self.with(|http| http.headers.push(field))
    }

    pub(super) fn read_timeout(self, timeout: Duration) -> Self {
        self.with(|http| http.read_timeout = timeout)
    }

    pub(super) fn retry(mut self, retry: Retry) -> Self {
        self.settings.retry = Some(retry);
        self
    }

    pub(super) fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Serves connections on as many workers, each with idle connections of its own.
    pub(super) fn workers(mut self, count: NonZero<usize>) -> Self {
        self.limits.workers = count;
        self.workers = Some(Workers::start(count).unwrap());
        self
    }

    pub(super) async fn start(self) -> Plane {
        let destination = Arc::new(named("backend", self.destination.clone()));
        self.resolving(|parts| {
            let Protocol::Http(http) = &destination.protocol else {
                unreachable!("it was made above")
            };
            let lazy = Lazy::new(&destination, http);
            lazy.service(&parts).unwrap();
            move |_: &HeaderMap| lazy.resolve(&parts)
        })
        .await
    }

    /// Serves what a request is resolved to.
    pub(super) async fn resolving<R: Resolve>(self, resolve: impl FnOnce(HttpParts) -> R) -> Plane {
        let metrics = HttpMetrics::default();
        let dials = Arc::new(AtomicUsize::new(0));
        let dialer: Arc<dyn Dialer> = Arc::new(TestDialer(Arc::clone(&dials)));
        let resolve = Arc::new(resolve(HttpParts {
            tokens: TokenService::new(Arc::clone(&dialer), Authorities::default()),
            dialer,
            pool: Pool::new(self.limits),
            settings: Arc::new(self.settings),
            metrics: metrics.clone(),
            behalf: None,
        }));
        let drain = Drain::new();
        let watch = drain.watch();
        let limits = accept::Limits::new(LimitsConfig::default());
        let connections = Connections::default();
        let (counted, listed) = (Arc::clone(&limits), connections.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let resolve = Arc::clone(&resolve);
                let current = move |head: &HeaderMap| resolve(head);
                let accepted = Accepted {
                    id: accept::next_id(),
                    stream,
                    peer,
                    drain: watch.clone(),
                    permit: counted.admit(peer.ip()).unwrap(),
                };
                let listed = listed.open(About {
                    id: accepted.id,
                    protocol: connections::HTTP,
                    cr: None,
                    destination: "backend".to_owned(),
                    source: peer,
                    target: "-".to_owned(),
                });
                match &self.workers {
                    None => drop(tokio::spawn(serve_connection(accepted, listed, current))),
                    Some(workers) => {
                        let accepted = accepted.detach().unwrap();
                        workers.spawn(move || async move {
                            serve_connection(accepted.attach().unwrap(), listed, current).await;
                        });
                    }
                }
            }
        });
        Plane {
            address,
            drain,
            metrics,
            limits,
            connections,
            dials,
        }
    }
}

/// A destination of its first version.
pub(super) fn named(name: &str, http: HttpDestination) -> Destination {
    Destination {
        name: DestinationName::new_unchecked(name),
        service_port: 80,
        protocol: Protocol::Http(Arc::new(http)),
        version: Version(1),
        warnings: Vec::new(),
    }
}

/// A target that runs `serve` for every connection.
pub(super) async fn target<F, R>(serve: F) -> SocketAddr
where
    F: Fn(TcpStream) -> R + Send + Sync + 'static,
    R: Future<Output = io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// Heads of the requests that a target has seen.
pub(super) type Seen = Arc<Mutex<Vec<String>>>;

/// A target that answers every request alike and keeps its connections open.
pub(super) async fn answering(response: &'static str) -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let log = Arc::clone(&seen);
    let address = target(move |mut stream| {
        let log = Arc::clone(&log);
        async move {
            while let Some(head) = read_head(&mut stream).await {
                log.lock().unwrap().push(head);
                stream.write_all(response.as_bytes()).await?;
            }
            Ok(())
        }
    })
    .await;
    (address, seen)
}

pub(super) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A head, up to and with its empty line; `None` at the end of the connection.
pub(super) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    read_until(stream, b"\r\n\r\n").await
}

pub(super) async fn read_until(stream: &mut (impl AsyncRead + Unpin), end: &[u8]) -> Option<String> {
    let mut read = Vec::new();
    let whole = async {
        while !read.ends_with(end) {
            read.push(stream.read_u8().await?);
        }
        io::Result::Ok(())
    };
    tokio::time::timeout(PATIENCE, whole)
        .await
        .expect("the other side sends")
        .ok()?;
    Some(String::from_utf8(read).unwrap())
}

pub(super) async fn read_all(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    let result = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut read))
        .await
        .expect("the other side closes");
    if let Err(error) = result {
        panic!("{error} after {:?}", String::from_utf8_lossy(&read));
    }
    String::from_utf8(read).unwrap()
}

/// The value of a field, by its name as it was written.
pub(super) fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split("\r\n")
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}
