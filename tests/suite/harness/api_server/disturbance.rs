//! Stands between a client and the API server and misbehaves as it is told.
//!
//! Clients reach it by plain HTTP, with the credentials that they would show to the server. It
//! relays every request, streaming, unless a rule says otherwise, and remembers what was asked.

mod stream;

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, oneshot, watch};

use super::kubeconfig::Kubeconfig;
use stream::Interruption;

type Body = UnsyncBoxBody<Bytes, BrokenOff>;

/// More than there are open streams in any test.
const INTERRUPTIONS: usize = 1024;

pub struct Disturbance {
    kubeconfig: Kubeconfig,
    control: Arc<Control>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

/// What happens to a request instead of an answer of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instead {
    /// A `Status` object with this code; 429 and 503 ask to come again after a second.
    Status(u16),
    /// The connection ends without an answer.
    Cut,
    /// No answer, ever; the connection stays open.
    Silence,
    /// The request is done, but its answer is lost.
    LostAnswer,
    /// The server's answer, but not before this time.
    Late(Duration),
    /// The server gets it after [`Disturbance::release`].
    WhenReleased,
}

/// A request that came by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub method: Method,
    pub path: String,
    pub query: String,
    pub body: Bytes,
}

impl Seen {
    pub fn is_watch(&self) -> bool {
        self.query
            .split('&')
            .any(|parameter| parameter == "watch=true" || parameter == "watch=1")
    }

    pub fn is_write(&self) -> bool {
        self.method != Method::GET
    }

    /// Whether the path has this segment: `services`, `leases`, a namespace, a name.
    pub fn is_of(&self, segment: &str) -> bool {
        self.path.split('/').any(|part| part == segment)
    }
}

type Matching = Box<dyn Fn(&Seen) -> bool + Send>;

struct Rule {
    matching: Matching,
    instead: Instead,
    /// How many requests it is still for.
    left: usize,
}

struct Control {
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<Seen>>,
    interruptions: broadcast::Sender<Interruption>,
    held: watch::Sender<bool>,
    /// How often it was released.
    releases: watch::Sender<usize>,
    /// How many requests the server has answered that had to wait for that.
    arrived: AtomicUsize,
}

impl Disturbance {
    pub(super) async fn in_front_of(server: &Kubeconfig) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        Self::at(listener, server).await
    }

    /// At a listener that may be in another network namespace than the server.
    pub(super) async fn at(listener: std::net::TcpListener, server: &Kubeconfig) -> Self {
        let address = listener.local_addr().expect("an address");
        let folder = tempfile::tempdir().expect("a folder");
        let kubeconfig = Kubeconfig::write(
            folder.path().join("kubeconfig"),
            format!("http://{address}"),
            None,
            server.token.clone(),
        );
        let control = Arc::new(Control {
            rules: Mutex::default(),
            seen: Mutex::default(),
            interruptions: broadcast::channel(INTERRUPTIONS).0,
            held: watch::channel(false).0,
            releases: watch::channel(0).0,
            arrived: AtomicUsize::new(0),
        });
        let (stop, stopped) = oneshot::channel();
        let upstream = upstream_config(server).await;
        let thread = thread::spawn({
            let control = Arc::clone(&control);
            move || serve_until(stopped, listener, upstream, &control)
        });
        Self {
            kubeconfig,
            control,
            stop: Some(stop),
            thread: Some(thread),
            _folder: folder,
        }
    }

    /// For `KUBECONFIG`: the same user, this way in.
    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig.path()
    }

    pub async fn client(&self) -> kube::Client {
        self.kubeconfig.client().await
    }

    /// From now on, for every matching request. Of several rules the newest one that matches counts.
    pub fn disturb(&self, matching: impl Fn(&Seen) -> bool + Send + 'static, instead: Instead) {
        self.disturb_times(usize::MAX, matching, instead);
    }

    /// For the next matching requests only.
    pub fn disturb_times(
        &self,
        times: usize,
        matching: impl Fn(&Seen) -> bool + Send + 'static,
        instead: Instead,
    ) {
        self.control.rules.lock().unwrap().push(Rule {
            matching: Box::new(matching),
            instead,
            left: times,
        });
    }

    /// Takes all rules back.
    pub fn calm(&self) {
        self.control.rules.lock().unwrap().clear();
        self.release();
    }

    /// Watches break off in the middle of a line.
    pub fn cut_streams(&self) {
        self.interrupt(Interruption::Cut);
    }

    /// Watches end in order, as they do when their time is up.
    pub fn end_streams(&self) {
        self.interrupt(Interruption::End);
    }

    /// Watches get the event that says that their version is too old (410), and end.
    pub fn expire_streams(&self) {
        self.interrupt(Interruption::Expire);
    }

    /// Nothing comes back any more, neither events nor answers, though all connections stay open.
    pub fn hold(&self) {
        self.control.held.send_replace(true);
    }

    /// Whatever is held goes on.
    pub fn release(&self) {
        self.control.held.send_replace(false);
        self.control.releases.send_modify(|times| *times += 1);
    }

    /// How many requests the server has answered [`WhenReleased`](Instead::WhenReleased).
    pub fn arrived(&self) -> usize {
        self.control.arrived.load(Ordering::Relaxed)
    }

    /// Everything that was asked up to now.
    pub fn seen(&self) -> Vec<Seen> {
        self.control.seen.lock().unwrap().clone()
    }

    pub fn forget(&self) {
        self.control.seen.lock().unwrap().clear();
    }

    /// Everything but reads and watches.
    pub fn writes(&self) -> Vec<Seen> {
        self.seen().into_iter().filter(Seen::is_write).collect()
    }

    fn interrupt(&self, interruption: Interruption) {
        // Nobody receives it where no watch is open.
        self.control.interruptions.send(interruption).ok();
    }
}

impl Drop for Disturbance {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Without a user: clients bring theirs. Answers may take as long as they take.
async fn upstream_config(server: &Kubeconfig) -> kube::Config {
    let mut config = server.config().await;
    config.auth_info = kube::config::AuthInfo::default();
    config.read_timeout = None;
    config.default_retry = false;
    config
}

fn serve_until(
    stopped: oneshot::Receiver<()>,
    listener: std::net::TcpListener,
    upstream: kube::Config,
    control: &Arc<Control>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        listener.set_nonblocking(true).expect("a socket can do that");
        let listener = TcpListener::from_std(listener).expect("a listener");
        let upstream = kube::Client::try_from(upstream).expect("a client");
        let accept = async {
            loop {
                let (connection, _) = listener.accept().await.expect("a connection");
                tokio::spawn(serve(connection, upstream.clone(), Arc::clone(control)));
            }
        };
        tokio::select! {
            () = accept => {}
            _ = stopped => {}
        }
    });
}

async fn serve(connection: TcpStream, upstream: kube::Client, control: Arc<Control>) {
    let answer = service_fn(move |request| {
        let (upstream, control) = (upstream.clone(), Arc::clone(&control));
        async move { answer(request, &upstream, &control).await }
    });
    // It fails where a client goes away, and where a test wants it to.
    hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(connection), answer)
        .await
        .ok();
}

/// Makes hyper drop the connection.
#[derive(Debug)]
pub(super) struct BrokenOff;

impl std::fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken off by a test")
    }
}

impl std::error::Error for BrokenOff {}

async fn answer(
    request: Request<Incoming>,
    upstream: &kube::Client,
    control: &Control,
) -> Result<Response<Body>, BrokenOff> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_gone| BrokenOff)?.to_bytes();
    let seen = Seen {
        method: head.method.clone(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        body: body.clone(),
    };
    // A test that sees the request may release it.
    let mut releases = control.releases.subscribe();
    control.seen.lock().unwrap().push(seen.clone());
    let request = Request::from_parts(head, body);
    match control.instead(&seen) {
        None => relay(request, &seen, upstream, control).await,
        Some(Instead::Status(code)) => Ok(status(code)),
        Some(Instead::Cut) => Err(BrokenOff),
        Some(Instead::Silence) => Ok(std::future::pending().await),
        Some(Instead::LostAnswer) => {
            relay(request, &seen, upstream, control).await?;
            Err(BrokenOff)
        }
        Some(Instead::Late(time)) => {
            tokio::time::sleep(time).await;
            relay(request, &seen, upstream, control).await
        }
        Some(Instead::WhenReleased) => {
            releases.changed().await.map_err(|_gone| BrokenOff)?;
            let answer = relay(request, &seen, upstream, control).await;
            control.arrived.fetch_add(1, Ordering::Relaxed);
            answer
        }
    }
}

impl Control {
    fn instead(&self, seen: &Seen) -> Option<Instead> {
        let mut rules = self.rules.lock().unwrap();
        let rule = rules
            .iter_mut()
            .rev()
            .find(|rule| rule.left > 0 && (rule.matching)(seen))?;
        rule.left -= 1;
        Some(rule.instead)
    }
}

async fn relay(
    request: Request<Bytes>,
    seen: &Seen,
    upstream: &kube::Client,
    control: &Control,
) -> Result<Response<Body>, BrokenOff> {
    let interruptions = control.interruptions.subscribe();
    let mut held = control.held.subscribe();
    let (mut head, body) = request.into_parts();
    // The upstream client writes its own.
    head.headers.remove(header::HOST);
    let request = Request::from_parts(head, kube::client::Body::from(body.to_vec()));
    let response = upstream.send(request).await.map_err(|_unreachable| BrokenOff)?;
    held.wait_for(|held| !held).await.map_err(|_gone| BrokenOff)?;
    let (mut head, body) = response.into_parts();
    for name in [header::TRANSFER_ENCODING, header::CONNECTION] {
        head.headers.remove(name);
    }
    let body = if seen.is_watch() {
        stream::interruptible(body, interruptions, held)
    } else {
        body.map_err(|_broken| BrokenOff).boxed_unsync()
    };
    Ok(Response::from_parts(head, body))
}

fn status(code: u16) -> Response<Body> {
    let mut response = Response::new(
        Full::from(status_object(code))
            .map_err(|never: Infallible| match never {})
            .boxed_unsync(),
    );
    *response.status_mut() = StatusCode::from_u16(code).expect("a status");
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if matches!(code, 429 | 503) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// As the server words its refusals; the reason is what clients go by.
fn status_object(code: u16) -> String {
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        422 => "Invalid",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        other => panic!("name the reason of {other} here"),
    };
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {},
        "status": "Failure", "reason": reason, "code": code,
        "message": format!("a test answers {code}"),
    })
    .to_string()
}
