//! The response's body, from the target to the application.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::upload::{RequestBody, Upload};
use crate::connect::pool::{Http1, Http2, Origin};
use crate::flow::http::app::AppConnection;
use crate::flow::http::streams::OpenStream;
use crate::framing::Turn;

/// What is sent to the application.
pub struct ResponseBody {
    source: Source,
    /// These end with the body.
    _turn: Option<Turn>,
    _stream: Option<OpenStream>,
}

enum Source {
    Empty,
    Full(Bytes),
    Pooled(Pooled),
    Shared(Shared),
}

/// Why an answer breaks off. The application's connection is aborted then: an answer
/// is never cut silently.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    #[error("the target's answer broke off")]
    Target(#[source] hyper::Error),
    #[error("the target sent nothing for {} s", .0.as_secs())]
    TimedOut(Duration),
}

impl From<Source> for ResponseBody {
    fn from(source: Source) -> Self {
        Self {
            source,
            _turn: None,
            _stream: None,
        }
    }
}

type Polled = Poll<Option<Result<Frame<Bytes>, DownloadError>>>;

impl ResponseBody {
    pub(in crate::flow::http) fn empty() -> Self {
        Source::Empty.into()
    }

    pub(in crate::flow::http) fn full(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            Source::Empty.into()
        } else {
            Source::Full(bytes).into()
        }
    }

    pub(in crate::flow::http) fn keeping_turn(self, turn: Turn) -> Self {
        Self {
            _turn: Some(turn),
            ..self
        }
    }

    pub(in crate::flow::http) fn keeping_stream(self, stream: OpenStream) -> Self {
        Self {
            _stream: Some(stream),
            ..self
        }
    }

    /// Drives the connection it comes from, and gives that back at its end.
    pub(in crate::flow::http) fn pooled(mut pooled: Pooled) -> Self {
        if pooled.incoming.is_end_stream() {
            pooled.finish(&mut Context::from_waker(std::task::Waker::noop()));
            return Source::Empty.into();
        }
        Source::Pooled(pooled).into()
    }

    /// Comes from a connection that has a task of its own.
    pub(in crate::flow::http) fn shared(
        incoming: Incoming,
        timeout: Duration,
        upload: Option<Arc<Upload>>,
        http2: Option<Http2<RequestBody>>,
        reset_on_error: Option<Arc<AppConnection>>,
    ) -> Self {
        if incoming.is_end_stream() {
            upload.inspect(|upload| upload.answered());
            return Source::Empty.into();
        }
        let timer = Box::pin(sleep_until(Instant::now() + timeout));
        Source::Shared(Shared {
            incoming,
            timer,
            timeout,
            waiting_since: None,
            upload,
            http2,
            reset_on_error,
        })
        .into()
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = DownloadError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        match &mut self.source {
            Source::Empty => Poll::Ready(None),
            Source::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.source = Source::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Source::Pooled(pooled) => pooled.poll_frame(cx),
            Source::Shared(shared) => shared.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Full(_) => false,
            Source::Pooled(pooled) => pooled.incoming.is_end_stream(),
            Source::Shared(shared) => shared.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Pooled(pooled) => pooled.incoming.size_hint(),
            Source::Shared(shared) => shared.incoming.size_hint(),
        }
    }
}

/// A body together with the connection it comes over.
pub(in crate::flow::http) struct Pooled {
    pub incoming: Incoming,
    pub connection: Option<Box<Http1<RequestBody>>>,
    pub origin: Arc<Origin<RequestBody>>,
    /// The connection goes back to the application's own instead of the pool.
    pub pin_to: Option<Arc<AppConnection>>,
    pub timeout: Duration,
    pub waiting_since: Option<Instant>,
    pub reset_on_error: Option<Arc<AppConnection>>,
}

impl Pooled {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Polled {
        // As long as we drive the connection, nothing else fills the body, so it need not wake us.
        let mut asleep = Context::from_waker(Waker::noop());
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(&mut asleep) {
            return Poll::Ready(self.took(frame, cx));
        }
        if let Some(connection) = &mut self.connection {
            let _ended_or_not = connection.poll_drive(cx);
        }
        match Pin::new(&mut self.incoming).poll_frame(&mut asleep) {
            Poll::Ready(frame) => Poll::Ready(self.took(frame, cx)),
            Poll::Pending => self.poll_inactivity(cx),
        }
    }

    /// The clock runs only while we wait for the target, not while the application is busy.
    fn poll_inactivity(&mut self, cx: &mut Context<'_>) -> Polled {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let Some(connection) = &mut self.connection else {
            return Poll::Pending;
        };
        std::task::ready!(connection.poll_deadline(since + self.timeout, cx));
        self.connection = None;
        Poll::Ready(Some(Err(timed_out(self.timeout, self.reset_on_error.as_ref()))))
    }

    fn took(
        &mut self,
        frame: Option<Result<Frame<Bytes>, hyper::Error>>,
        cx: &mut Context<'_>,
    ) -> Option<Result<Frame<Bytes>, DownloadError>> {
        self.waiting_since = None;
        match frame {
            Some(Ok(frame)) => {
                if self.incoming.is_end_stream() {
                    self.finish(cx);
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                self.connection = None;
                Some(Err(broken(error, self.reset_on_error.as_ref())))
            }
            None => {
                self.finish(cx);
                None
            }
        }
    }

    fn finish(&mut self, cx: &mut Context<'_>) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        if !connection.is_idle() && !connection.is_open(cx) {
            return;
        }
        match self.pin_to.take() {
            Some(app) => app.pin(Arc::clone(&self.origin), connection),
            None => self.origin.park(connection),
        }
    }
}

/// A body from a connection that others may use too.
struct Shared {
    incoming: Incoming,
    timer: Pin<Box<Sleep>>,
    timeout: Duration,
    waiting_since: Option<Instant>,
    upload: Option<Arc<Upload>>,
    /// Where it is one of several that share a connection.
    http2: Option<Http2<RequestBody>>,
    reset_on_error: Option<Arc<AppConnection>>,
}

impl Shared {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Polled {
        let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) else {
            return self.poll_inactivity(cx);
        };
        self.waiting_since = None;
        if (frame.is_none() || self.incoming.is_end_stream())
            && let Some(upload) = &self.upload
        {
            upload.answered();
        }
        Poll::Ready(frame.map(|frame| frame.map_err(|error| broken(error, self.reset_on_error.as_ref()))))
    }

    fn poll_inactivity(&mut self, cx: &mut Context<'_>) -> Polled {
        let mut deadline = *self.waiting_since.get_or_insert_with(Instant::now) + self.timeout;
        if self.timer.deadline() > deadline {
            self.timer.as_mut().reset(deadline);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if let Some(upload) = &self.upload
                && upload.frames_since_last_look()
            {
                deadline = now + self.timeout;
                self.waiting_since = Some(now);
            }
            if now >= deadline {
                self.http2.as_ref().inspect(|part| part.retire());
                return Poll::Ready(Some(Err(timed_out(self.timeout, self.reset_on_error.as_ref()))));
            }
            self.timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

fn broken(error: hyper::Error, reset: Option<&Arc<AppConnection>>) -> DownloadError {
    tracing::debug!(%error, "the target's answer broke off");
    reset.inspect(|app| app.reset());
    DownloadError::Target(error)
}

fn timed_out(timeout: Duration, reset: Option<&Arc<AppConnection>>) -> DownloadError {
    reset.inspect(|app| app.reset());
    DownloadError::TimedOut(timeout)
}
