//! The server that applications talk to: HTTP/1.0, HTTP/1.1, and HTTP/2 for those that begin with it.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use http::{HeaderMap, Request};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use super::HttpService;
use super::answer::{Refusal, answer};
use super::app::{AppConnection, AppStream};
use super::streams::Streams;
use crate::accept::Accepted;
use crate::framing::{self, Deadlines, Protocol, RequestGuard, RequestHandle, Turn};
use crate::lifecycle::drain::DrainWatch;
use crate::telemetry::connections::Listed;

/// What hyper reads from has passed the framing's guard.
type Guard = RequestGuard<AppStream>;

/// Header fields of a request; with more it is refused.
const MAX_FIELDS: usize = 256;
/// Bytes buffered per connection and direction.
const MAX_BUFFER: usize = 128 * 1024;
/// Requests at once on an HTTP/2 connection: the least that RFC 9113, section 6.5.2, recommends
/// to allow, as each may open a connection to the target.
const MAX_STREAMS: u32 = 100;
/// Bytes of an answer that wait for the application to take them, per stream.
const SEND_BUFFER: usize = 64 * 1024;
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// What a request's head leads to: the service that takes the request, or why none does.
pub type Resolved = Result<Arc<HttpService>, Box<Refusal>>;

/// Decides which service takes a request. Asked at every request, so it must not wait.
pub trait Resolve: Fn(&HeaderMap) -> Resolved + Send + Sync + 'static {}
impl<R: Fn(&HeaderMap) -> Resolved + Send + Sync + 'static> Resolve for R {}

/// Serves the requests of one application connection.
///
/// # Expected flow
///
/// `resolve` is asked with the head of every request, so a changed configuration applies
/// to the next one. When the drain begins, HTTP/1
/// answers say `Connection: close`, HTTP/2 gets a GOAWAY, and what runs is finished. Connections
/// without a request for a while end in the same way.
///
/// # Guarantees
///
/// An application that goes away cancels its request to the target: closing its
/// sending half counts as going away, as with other HTTP proxies. An answer that
/// cannot be completed aborts the application's connection.
///
/// The connection counts as open, and is listed, until its last byte: also after a switch of
/// protocols, which this does not wait for.
pub async fn serve_connection<R: Resolve>(accepted: Accepted, listed: Listed, resolve: R) {
    let Accepted {
        stream,
        peer,
        drain,
        permit,
        ..
    } = accepted;
    let app = Arc::new(AppConnection::new(drain.clone(), permit, listed));
    let stream = AppStream::new(stream, Arc::clone(&app));
    let (mut guard, handle) = RequestGuard::new(stream, framing::Limits::default(), Deadlines::default());
    let protocol = tokio::select! {
        biased;
        protocol = guard.protocol() => protocol.unwrap_or(Protocol::Closed),
        () = drain.draining() => return,
    };
    let served = match protocol {
        Protocol::Http1 => serve_http1(guard, handle, app, resolve, &drain).await,
        Protocol::Http2 => serve_http2(guard, app, resolve, &drain).await,
        // Client libraries connect without a byte to see whether somebody is there.
        Protocol::Closed => return,
    };
    if let Some(Err(error)) = served {
        tracing::debug!(%peer, %error, "connection of the application broke off");
    }
}

async fn serve_http1<R>(
    guard: Guard,
    handle: RequestHandle,
    app: Arc<AppConnection>,
    resolve: R,
    drain: &DrainWatch,
) -> Option<hyper::Result<()>>
where
    R: Resolve,
{
    let answer = service_fn(move |request: Request<Incoming>| {
        let resolved = resolve(request.headers());
        respond(resolved, request, Some(handle.begin()), Arc::clone(&app))
    });
    let connection = http1::Builder::new()
        .preserve_header_case(true)
        .title_case_headers(false)
        .max_headers(MAX_FIELDS)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(TokioIo::new(guard), answer)
        .with_upgrades();
    let shut_down = http1::UpgradeableConnection::graceful_shutdown;
    drive(connection, shut_down, drain.draining(), drain).await
}

async fn serve_http2<R>(
    guard: Guard,
    app: Arc<AppConnection>,
    resolve: R,
    drain: &DrainWatch,
) -> Option<hyper::Result<()>>
where
    R: Resolve,
{
    let streams = Streams::new();
    let of_answers = Arc::clone(&streams);
    let answer = service_fn(move |request: Request<Incoming>| {
        let stream = of_answers.begin();
        let resolved = resolve(request.headers());
        let answer = respond(resolved, request, None, Arc::clone(&app));
        async move { Ok::<_, Infallible>(answer.await?.map(|body| body.keeping_stream(stream))) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_send_buf_size(SEND_BUFFER)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(64 * 1024)
        .serve_connection(TokioIo::new(guard), answer);
    // The guard does not look into HTTP/2, so idle connections end here. A stream may be silent as
    // long as it likes.
    let idle = Deadlines::default().idle;
    let ends = async {
        tokio::select! {
            () = drain.draining() => {}
            () = streams.idle(idle) => {}
        }
    };
    drive(connection, http2::Connection::graceful_shutdown, ends, drain).await
}

async fn respond(
    resolved: Resolved,
    request: Request<Incoming>,
    turn: Option<Turn>,
    app: Arc<AppConnection>,
) -> Result<http::Response<super::ResponseBody>, Infallible> {
    Ok(answer(resolved, request, turn, app).await)
}

/// Runs a connection to its end, and asks it to end when it is time. `None` if it was cut off.
async fn drive<C: Future>(
    connection: C,
    shut_down: impl FnOnce(Pin<&mut C>),
    ends: impl Future<Output = ()>,
    drain: &DrainWatch,
) -> Option<C::Output> {
    let mut connection = pin!(connection);
    let mut ends = pin!(ends);
    let mut alarm = None;
    let output = poll_fn(|cx| {
        // First, so that a request that is here already is not closed on.
        if let Poll::Ready(output) = connection.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        let alarm = alarm.get_or_insert_with(|| Alarm::new(cx.waker()));
        if !alarm.raised.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        alarm.raised.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(alarm));
        ends.as_mut()
            .poll(&mut Context::from_waker(&waker))
            .map(|()| None)
    })
    .await;
    if output.is_some() {
        return output;
    }
    shut_down(connection.as_mut());
    tokio::select! {
        output = connection => Some(output),
        () = drain.cut() => None,
    }
}

/// Wakes a connection for its end. To ask the drain itself whenever the connection
/// moves would take a lock that all connections share.
struct Alarm {
    raised: AtomicBool,
    task: Waker,
}

impl Alarm {
    /// Raised, so that there is a first look.
    fn new(task: &Waker) -> Arc<Self> {
        Arc::new(Self {
            raised: AtomicBool::new(true),
            task: task.clone(),
        })
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.raised.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}
