//! The application's side of the plane: what is known about its connection, and its byte stream.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::body::RequestBody;
use crate::accept::Permit;
use crate::connect::pool::{Http1, Origin};
use crate::lifecycle::drain::DrainWatch;
use crate::telemetry::connections::Listed;

/// One connection of an application, shared by its requests.
pub(super) struct AppConnection {
    /// Held, so that a drain waits for upgraded connections too.
    drain: DrainWatch,
    /// So do these: it stays counted and listed.
    _permit: Permit,
    _listed: Listed,
    /// A request was answered before its body was read to the end.
    unread: AtomicBool,
    /// An answer without a length broke off: only a reset tells the application.
    reset: AtomicBool,
    is_pinned: AtomicBool,
    pinned: Mutex<Option<Pinned>>,
}

/// Who gets an answer.
#[derive(Clone, Copy)]
pub(super) struct Client<'a> {
    pub(super) app: &'a Arc<AppConnection>,
    /// HTTP/1.0 has no other sign for a body that broke off.
    pub(super) resets: bool,
}

impl Client<'_> {
    pub(super) fn reset_on_error(self) -> Option<Arc<AppConnection>> {
        self.resets.then(|| Arc::clone(self.app))
    }
}

struct Pinned {
    origin: Arc<Origin<RequestBody>>,
    connection: Box<Http1<RequestBody>>,
}

impl AppConnection {
    pub(super) fn new(drain: DrainWatch, permit: Permit, listed: Listed) -> Self {
        Self {
            drain,
            _permit: permit,
            _listed: listed,
            unread: AtomicBool::new(false),
            reset: AtomicBool::new(false),
            is_pinned: AtomicBool::new(false),
            pinned: Mutex::default(),
        }
    }

    pub(super) fn drain(&self) -> &DrainWatch {
        &self.drain
    }

    pub(super) fn leave_unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }

    pub(super) fn reset(&self) {
        self.reset.store(true, Ordering::Relaxed);
    }

    /// Keeps a connection to the target for this application's connection alone: NTLM
    /// and Negotiate authenticate connections (RFC 4559, section 6).
    pub(super) fn pin(&self, origin: Arc<Origin<RequestBody>>, connection: Box<Http1<RequestBody>>) {
        *self.pinned.lock().unwrap_or_else(PoisonError::into_inner) = Some(Pinned { origin, connection });
        self.is_pinned.store(true, Ordering::Release);
    }

    /// The connection pinned before, if it leads to the same origin and is still open.
    pub(super) fn take_pinned(&self, origin: &Arc<Origin<RequestBody>>) -> Option<Box<Http1<RequestBody>>> {
        if !self.is_pinned.load(Ordering::Acquire) {
            return None;
        }
        let Pinned {
            origin: pinned_to,
            mut connection,
        } = self
            .pinned
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()?;
        let mut cx = Context::from_waker(std::task::Waker::noop());
        (Arc::ptr_eq(&pinned_to, origin) && connection.is_open(&mut cx)).then_some(connection)
    }

    /// Connections of this application stay apart from the pool once one was pinned.
    pub(super) fn is_pinned(&self) -> bool {
        self.is_pinned.load(Ordering::Acquire)
    }
}

/// How long an application that is still sending is listened to after its answer.
/// Closing at once would reset the connection and could take the answer with it
/// (RFC 9112, section 9.6).
const LINGER: Duration = Duration::from_secs(5);

/// The application's connection; closes as gently or as hard as its requests need.
pub(super) struct AppStream {
    tcp: TcpStream,
    app: Arc<AppConnection>,
    lingering: Option<Pin<Box<Sleep>>>,
}

impl AppStream {
    pub(super) fn new(tcp: TcpStream, app: Arc<AppConnection>) -> Self {
        Self {
            tcp,
            app,
            lingering: None,
        }
    }

    /// Reads and forgets until the application has closed too.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.tcp).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        self.lingering
            .get_or_insert_with(|| Box::pin(sleep(LINGER)))
            .as_mut()
            .poll(cx)
    }
}

impl Drop for AppStream {
    fn drop(&mut self) {
        if self.app.reset.load(Ordering::Relaxed) {
            let _best_effort = self.tcp.set_zero_linger();
        }
    }
}

impl AsyncRead for AppStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for AppStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(Pin::new(&mut self.tcp).poll_shutdown(cx))?;
        }
        if self.app.unread.load(Ordering::Relaxed) {
            ready!(self.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}
