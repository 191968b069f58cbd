//! An HTTP/1 connection that its present user drives: no task, no wake-ups between tasks.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, Sleep, sleep_until};

use super::io::{TargetIo, TlsRefusal};
use super::{Limits, RequestBody};
use crate::connect::{Error, TlsFailure};
use crate::framing::{self, Expected, ResponseGuard, ResponseHandle};
use crate::lifecycle::workers;

/// Fields in a response's head; more are refused.
const MAX_FIELDS: usize = 256;
/// Bytes buffered in each direction.
const MAX_BUFFER: usize = 128 * 1024;
/// We close this long before the server says it will.
const SERVER_MARGIN: Duration = Duration::from_secs(1);

/// What hyper reads from has passed the framing's guard.
type GuardedIo = TokioIo<ResponseGuard<TargetIo>>;

/// A connection, and the future that moves its bytes.
pub struct Http1<B: RequestBody> {
    sender: http1::SendRequest<B>,
    connection: http1::Connection<GuardedIo, B>,
    refusal: TlsRefusal,
    /// Of the framing's guard.
    handle: ResponseHandle,
    /// Registered once and moved lazily: a request costs no timer of its own.
    timer: Pin<Box<Sleep>>,
    /// Whose runtime knows the socket.
    worker: usize,
    idle_since: Instant,
    server_idle: Option<Duration>,
    reused: bool,
    closed: bool,
}

impl<B: RequestBody> Http1<B> {
    pub(super) async fn handshake(io: TargetIo) -> Result<Self, Error> {
        let refusal = io.refusal();
        let (guard, handle) = ResponseGuard::new(io, framing::Limits::default());
        let (sender, connection) = builder()
            .handshake(TokioIo::new(guard))
            .await
            .map_err(|error| Error::Io(std::io::Error::other(error)))?;
        let now = Instant::now();
        Ok(Self {
            sender,
            connection,
            handle,
            refusal,
            timer: Box::pin(sleep_until(now + Duration::from_mins(1))),
            worker: workers::current(),
            idle_since: now,
            server_idle: None,
            reused: false,
            closed: false,
        })
    }

    /// Queues a request; [`Self::poll_drive`] sends it.
    pub fn send(
        &mut self,
        request: Request<B>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<B>>>> + use<B> {
        self.handle.expect(Expected::of(request.method(), false));
        self.sender.try_send_request(request)
    }

    /// Moves bytes. Ready when the connection has ended.
    pub fn poll_drive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.closed {
            return Poll::Ready(());
        }
        let Poll::Ready(result) = Pin::new(&mut self.connection).poll(cx) else {
            return Poll::Pending;
        };
        self.closed = true;
        if let Err(error) = result {
            tracing::debug!(%error, "connection to the target ended");
        }
        Poll::Ready(())
    }

    /// Ready once `deadline` has passed; earlier deadlines of this timer cost one look at the clock.
    pub fn poll_deadline(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if self.timer.deadline() > deadline {
            self.timer.as_mut().reset(deadline);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    /// True when a further request can be sent.
    pub fn is_idle(&self) -> bool {
        !self.closed && self.sender.is_ready() && self.handle.violation().is_none()
    }

    /// The server ended the connection for a reason of TLS.
    pub fn refusal(&self) -> Option<TlsFailure> {
        self.refusal.get()
    }

    pub(super) fn worker(&self) -> usize {
        self.worker
    }

    /// A response has come over it before.
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// The server's own idle limit (`Keep-Alive: timeout=`).
    pub fn set_server_idle(&mut self, limit: Duration) {
        self.server_idle = Some(limit.saturating_sub(SERVER_MARGIN));
    }

    /// Hands the connection to a task, to end what it is doing while nobody looks.
    pub fn detach(self) {
        tokio::spawn(async move {
            drop(self.sender);
            if let Err(error) = self.connection.await {
                tracing::debug!(%error, "connection to the target ended");
            }
        });
    }

    pub(super) fn parked(&mut self, now: Instant) {
        self.idle_since = now;
        self.reused = true;
    }

    pub(super) fn is_recent(&self, now: Instant, limits: &Limits) -> bool {
        now - self.idle_since < self.server_idle.unwrap_or(limits.idle_unrepeatable)
    }

    /// Still open, and young enough. A connection that was idle is read from, so that an end is seen.
    pub(super) fn is_usable(&mut self, now: Instant, limits: &Limits, cx: &mut Context<'_>) -> bool {
        let limit = self
            .server_idle
            .map_or(limits.idle, |server| server.min(limits.idle));
        now - self.idle_since < limit && self.is_open(cx)
    }

    /// Looks whether the server has closed it or sent what nobody asked for.
    pub fn is_open(&mut self, cx: &mut Context<'_>) -> bool {
        self.poll_drive(cx).is_pending() && self.is_idle()
    }
}

/// How all HTTP/1 connections to targets are made: names of fields as the application wrote them.
pub(crate) fn builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .preserve_header_case(true)
        .title_case_headers(true)
        .max_headers(MAX_FIELDS)
        .max_buf_size(MAX_BUFFER);
    builder
}
