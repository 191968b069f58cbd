//! The request's body, from the application to the target.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::flow::http::app::AppConnection;

/// What is sent to the target.
pub struct RequestBody(Content);

enum Content {
    Empty,
    Buffered(Bytes),
    /// Read to its end, where trailers were.
    Collected {
        data: Bytes,
        trailers: Option<Box<HeaderMap>>,
    },
    Streamed(Streamed),
}

struct Streamed {
    incoming: Incoming,
    upload: Arc<Upload>,
}

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error("the application's request body broke off")]
    Application(#[source] hyper::Error),
    #[error("the target answered without reading the whole request body")]
    AnsweredEarly,
}

/// How far a body is, seen by the exchange while the connection to the target owns the body.
pub(in crate::flow::http) struct Upload {
    app: Arc<AppConnection>,
    /// Closed while an application that sent `Expect: 100-continue` waits for a word
    /// of the target: the first read of its body makes hyper say `100 Continue`.
    open: AtomicBool,
    opened: AtomicWaker,
    frames: AtomicU64,
    frames_seen: AtomicU64,
    ended: AtomicBool,
    failed: AtomicBool,
    waits_for_app: AtomicBool,
    /// Bytes that may still follow; bounded once the answer is complete.
    remaining: AtomicI64,
}

/// What is uploaded at most after the target's answer is complete.
const AFTER_ANSWER: i64 = 1 << 20;
/// What is read and forgotten to keep a connection usable that was answered early.
const CHEAP_TO_DRAIN: u64 = 64 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(1);

impl RequestBody {
    pub(in crate::flow::http) fn new(incoming: Incoming, app: &Arc<AppConnection>, gated: bool) -> Self {
        if incoming.is_end_stream() {
            return Self(Content::Empty);
        }
        let upload = Arc::new(Upload::new(Arc::clone(app), !gated));
        Self(Content::Streamed(Streamed { incoming, upload }))
    }

    pub(in crate::flow::http) fn empty() -> Self {
        Self(Content::Empty)
    }

    pub(in crate::flow::http) fn buffered(bytes: Bytes) -> Self {
        Self(if bytes.is_empty() {
            Content::Empty
        } else {
            Content::Buffered(bytes)
        })
    }

    pub(in crate::flow::http) fn is_empty(&self) -> bool {
        matches!(self.0, Content::Empty)
    }

    pub(in crate::flow::http) fn has_unknown_length(&self) -> bool {
        !self.is_empty() && self.size_hint().exact().is_none()
    }

    /// The progress of a streamed body.
    pub(in crate::flow::http) fn upload(&self) -> Option<Arc<Upload>> {
        match &self.0 {
            Content::Streamed(streamed) => Some(Arc::clone(&streamed.upload)),
            Content::Empty | Content::Buffered(_) | Content::Collected { .. } => None,
        }
    }

    /// Reads the rest of a short body whose request failed, so that the connection stays usable.
    pub(in crate::flow::http) async fn drain_if_cheap(self) {
        let Content::Streamed(mut streamed) = self.0 else {
            return;
        };
        let is_cheap = streamed
            .size_hint()
            .exact()
            .is_some_and(|length| length <= CHEAP_TO_DRAIN);
        if is_cheap && streamed.upload.is_open() {
            let rest = async { while let Some(Ok(_)) = streamed.frame().await {} };
            let _ended_or_not = tokio::time::timeout(DRAIN_TIME, rest).await;
        }
    }

    /// The whole body if it is at most `limit` long and nothing else, else a body to be sent as it is. One that
    /// broke off meanwhile cannot be sent to its end any more.
    pub(in crate::flow::http) async fn collect_up_to(self, limit: usize) -> Result<Bytes, Self> {
        let fits =
            usize::try_from(self.size_hint().upper().unwrap_or(u64::MAX)).is_ok_and(|upper| upper <= limit);
        match self.0 {
            Content::Empty => Ok(Bytes::new()),
            Content::Buffered(bytes) => Ok(bytes),
            collected @ Content::Collected { .. } => Err(Self(collected)),
            Content::Streamed(streamed) if !fits || !streamed.upload.is_open() => {
                Err(Self(Content::Streamed(streamed)))
            }
            Content::Streamed(mut streamed) => match BodyExt::collect(&mut streamed).await {
                Ok(collected) => match collected.trailers().cloned() {
                    None => Ok(collected.to_bytes()),
                    Some(trailers) => Err(Self(Content::Collected {
                        data: collected.to_bytes(),
                        trailers: Some(Box::new(trailers)),
                    })),
                },
                Err(_broken_off) => Err(Self(Content::Streamed(streamed))),
            },
        }
    }
}

impl Upload {
    fn new(app: Arc<AppConnection>, open: bool) -> Self {
        Self {
            app,
            open: AtomicBool::new(open),
            opened: AtomicWaker::new(),
            frames: AtomicU64::new(0),
            frames_seen: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            waits_for_app: AtomicBool::new(false),
            remaining: AtomicI64::new(i64::MAX),
        }
    }

    /// The target wants the body, or has been silent for long enough.
    pub(in crate::flow::http) fn open(&self) {
        self.open.store(true, Ordering::Release);
        self.opened.wake();
    }

    pub(in crate::flow::http) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    pub(in crate::flow::http) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// The application's side broke off.
    pub(in crate::flow::http) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// The upload has made progress since this was asked last.
    pub(in crate::flow::http) fn frames_since_last_look(&self) -> bool {
        let frames = self.frames.load(Ordering::Relaxed);
        self.frames_seen.swap(frames, Ordering::Relaxed) != frames
    }

    /// It is the application's turn, not the target's.
    pub(in crate::flow::http) fn waits_for_app(&self) -> bool {
        !self.has_ended() && self.waits_for_app.load(Ordering::Relaxed)
    }

    /// The target's answer is complete: only a bounded rest is worth sending, and
    /// nothing if the target never asked for the body.
    pub(in crate::flow::http) fn answered(&self) {
        let remaining = if self.is_open() { AFTER_ANSWER } else { -1 };
        self.remaining.store(remaining, Ordering::Relaxed);
        self.open();
    }

    fn poll_open(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_open() {
            return Poll::Ready(());
        }
        self.opened.register(cx.waker());
        if self.is_open() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Streamed {
    fn took(&self, frame: &Frame<Bytes>) {
        self.upload.frames.fetch_add(1, Ordering::Relaxed);
        if self.incoming.is_end_stream() || frame.is_trailers() {
            self.upload.ended.store(true, Ordering::Release);
        }
        let length = frame
            .data_ref()
            .map_or(0, |data| i64::try_from(data.len()).unwrap_or(i64::MAX));
        self.upload.remaining.fetch_sub(length, Ordering::Relaxed);
    }
}

impl Body for Streamed {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        std::task::ready!(self.upload.poll_open(cx));
        if self.upload.remaining.load(Ordering::Relaxed) < 0 {
            return Poll::Ready(Some(Err(UploadError::AnsweredEarly)));
        }
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        self.upload
            .waits_for_app
            .store(polled.is_pending(), Ordering::Relaxed);
        polled.map(|frame| match frame {
            Some(Ok(frame)) => {
                self.took(&frame);
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                self.upload.failed.store(true, Ordering::Release);
                Some(Err(UploadError::Application(error)))
            }
            None => {
                self.upload.ended.store(true, Ordering::Release);
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        if !self.upload.has_ended() {
            self.upload.app.leave_unread();
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        match &mut self.0 {
            Content::Empty => Poll::Ready(None),
            Content::Buffered(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Content::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Content::Collected { data, trailers } => {
                let frame = if data.is_empty() {
                    trailers.take().map(|trailers| Frame::trailers(*trailers))
                } else {
                    Some(Frame::data(std::mem::take(data)))
                };
                Poll::Ready(frame.map(Ok))
            }
            Content::Streamed(streamed) => Pin::new(streamed).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Content::Empty => true,
            Content::Buffered(_) => false,
            Content::Collected { data, trailers } => data.is_empty() && trailers.is_none(),
            Content::Streamed(streamed) => streamed.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Empty => SizeHint::with_exact(0),
            Content::Buffered(data) | Content::Collected { data, .. } => {
                SizeHint::with_exact(data.len() as u64)
            }
            Content::Streamed(streamed) => streamed.size_hint(),
        }
    }
}
