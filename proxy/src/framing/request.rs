//! The guard between an application and hyper's server.

mod timer;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use self::timer::Timer;
use super::handle::{Decision, RequestHandle};
use super::head::HeadScan;
use super::inbound::Inbound;
use super::machine::{Requests, Then};
use super::{Deadlines, Limits, Violation, outbound};

/// What hyper reads in place of a refused request. It ends the connection.
pub(super) const REPLACEMENT: &[u8] = b"GET / HTTP/1.1\r\nhost: invalid\r\nconnection: close\r\n\r\n";
/// <https://www.rfc-editor.org/rfc/rfc9113#section-3.4>
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long, and for how many bytes, a refused client is listened to after the answer. To close while it still
/// sends would reset the connection, and the answer could be lost (RFC 9112, section 9.6).
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;
/// Bytes that are read behind an offered upgrade before it is decided.
const HELD_MAX: usize = 16 * 1024;
/// Keeps a setting of zero from spinning.
const SHORTEST_IDLE: Duration = Duration::from_millis(10);

/// What an application speaks, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    /// With prior knowledge. The guard is transparent from now on.
    Http2,
    /// The connection ended, or stayed idle for too long, before a request.
    Closed,
}

/// Lets only well-framed requests through, see the [module](super) for how the others are answered.
///
/// It also keeps the [`Deadlines`]; an idle connection ends as if the client had closed it.
///
/// A client that shuts down its sending side behind a complete request gets its answer: hyper sees the end of the
/// stream only when no [`Turn`](super::Turn) is open, or after [`Deadlines::half_closed`] without a byte written.
/// So hyper's own `half_close` must stay off: it would stop hyper from reading while it answers, and a reset would
/// go unseen.
#[derive(Debug)]
pub struct RequestGuard<IO> {
    io: IO,
    handle: RequestHandle,
    machine: Requests,
    inbound: Inbound,
    phase: Phase,
    deadlines: Deadlines,
    timer: Timer,
    head_since: Option<HeadSince>,
    /// When the end of the stream was seen and kept from hyper.
    ended_at: Option<Instant>,
    last_write: Instant,
    /// The socket takes no more, so hyper still has bytes to write.
    write_blocked: bool,
    linger: Option<Linger>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Reading,
    /// Behind the request that offers an upgrade.
    Held,
    /// A refused head was replaced; nothing follows.
    Refused,
    /// A body is malformed.
    Broken(Violation),
}

/// An incomplete head.
#[derive(Debug, Clone, Copy)]
struct HeadSince {
    /// The complete ones before it.
    count: u64,
    /// When its first bytes came.
    at: Instant,
}

#[derive(Debug)]
struct Linger {
    until: Instant,
    left: usize,
}

/// What a read finds without the socket.
enum Step {
    /// There is something new to deliver.
    Again,
    Return(Poll<io::Result<()>>),
}

impl<IO> RequestGuard<IO> {
    pub fn new(io: IO, limits: Limits, deadlines: Deadlines) -> (Self, RequestHandle) {
        let handle = RequestHandle::new();
        let guard = Self {
            io,
            handle: handle.clone(),
            machine: Requests::new(limits),
            inbound: Inbound::default(),
            phase: Phase::Reading,
            deadlines,
            timer: Timer::default(),
            head_since: None,
            ended_at: None,
            last_write: Instant::now(),
            write_blocked: false,
            linger: None,
        };
        (guard, handle)
    }

    pub fn get_ref(&self) -> &IO {
        &self.io
    }

    /// Requests that hyper has, or will get, and that are not answered yet.
    fn in_flight(&self) -> bool {
        self.delivered() > self.handle.finished()
    }

    fn delivered(&self) -> u64 {
        self.machine.count() + u64::from(self.phase == Phase::Refused)
    }

    fn apply(&mut self, then: Then) {
        match then {
            Then::More => self.note_head(),
            Then::Hold => self.phase = Phase::Held,
            Then::Refuse(violation) => self.refuse(violation),
            Then::Break(violation) => self.phase = Phase::Broken(violation),
        }
    }

    fn note_head(&mut self) {
        let begun = !self.inbound.held().is_empty() && HeadScan::has_begun(self.inbound.held());
        let count = self.machine.count();
        let same = self.head_since.filter(|since| since.count == count);
        self.head_since = begun.then(|| {
            same.unwrap_or_else(|| HeadSince {
                count,
                at: Instant::now(),
            })
        });
    }

    fn refuse(&mut self, violation: Violation) {
        self.handle.refuse(self.delivered() + 1, violation);
        self.inbound.replace_held(REPLACEMENT);
        self.phase = Phase::Refused;
        self.head_since = None;
    }

    /// Goes on behind a request that offered an upgrade, once it is clear with what.
    fn poll_decision(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.handle.register(cx.waker());
        match self.handle.decision(self.machine.count()) {
            Decision::Open => return Poll::Pending,
            Decision::Upgraded => self.machine.become_transparent(),
            Decision::NotUpgraded => self.machine.resume(),
        }
        self.phase = Phase::Reading;
        let then = self.inbound.judge(&mut self.machine);
        self.apply(then);
        Poll::Ready(())
    }

    /// The client sends no more. hyper takes that for the end of everything, so it has to wait for the answers.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.handle.register(cx.waker());
        let busy = self.in_flight() || self.write_blocked;
        if busy && !self.machine.is_transparent() {
            ready!(self.poll_half_closed(cx));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_half_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = self.ended_at.unwrap_or(self.last_write).max(self.last_write);
        self.timer.poll(cx, since + self.deadlines.half_closed)
    }

    /// Nothing to read: is it late?
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Step {
        if self.machine.in_body() || self.machine.is_transparent() {
            return Step::Return(Poll::Pending);
        }
        if let Some(since) = self.head_since {
            if self.timer.poll(cx, since.at + self.deadlines.head).is_pending() {
                return Step::Return(Poll::Pending);
            }
            self.refuse(Violation::HeadTimeout);
            return Step::Again;
        }
        // The timer runs while a request is answered, too, as hyper does not look here again when it has been.
        let idle = self.deadlines.idle.max(SHORTEST_IDLE);
        while self.timer.poll(cx, self.last_write + idle).is_ready() {
            if !self.in_flight() {
                return Step::Return(Poll::Ready(Ok(())));
            }
            self.last_write = Instant::now();
        }
        Step::Return(Poll::Pending)
    }
}

impl<IO: AsyncRead + Unpin> RequestGuard<IO> {
    /// Waits for the first bytes and says what they begin. To be called before the guard is handed to hyper.
    pub async fn protocol(&mut self) -> io::Result<Protocol> {
        poll_fn(|cx| self.poll_protocol(cx)).await
    }

    fn poll_protocol(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Protocol>> {
        let mut space = [0; 2048];
        loop {
            if let Some(protocol) = detect(self.inbound.held()) {
                return Poll::Ready(Ok(self.begin(protocol)));
            }
            let mut buf = ReadBuf::new(&mut space);
            match Pin::new(&mut self.io).poll_read(cx, &mut buf) {
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) if buf.filled().is_empty() => return Poll::Ready(Ok(Protocol::Closed)),
                Poll::Ready(Ok(())) => self.inbound.hold(buf.filled()),
                Poll::Pending => {
                    self.note_head();
                    match self.poll_deadline(cx) {
                        Step::Again => return Poll::Ready(Ok(Protocol::Http1)),
                        Step::Return(poll) => return poll.map_ok(|()| Protocol::Closed),
                    }
                }
            }
        }
    }

    fn begin(&mut self, protocol: Protocol) -> Protocol {
        if protocol == Protocol::Http2 {
            self.machine.become_transparent();
        }
        let then = self.inbound.judge(&mut self.machine);
        self.apply(then);
        protocol
    }

    fn poll_without_data(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Option<Step> {
        if buf.remaining() == 0 || self.inbound.deliver(buf) {
            return Some(Step::Return(Poll::Ready(Ok(()))));
        }
        match self.phase {
            Phase::Reading => self.ended_at.is_some().then(|| Step::Return(self.poll_end(cx))),
            // Anything else would be the end of the stream for hyper, while it answers.
            Phase::Refused => Some(Step::Return(Poll::Pending)),
            Phase::Broken(violation) => Some(Step::Return(Poll::Ready(Err(violation.into())))),
            Phase::Held => Some(self.poll_held(cx)),
        }
    }

    /// Waits for the decision about an upgrade. Reads meanwhile, as a client that goes must not go unnoticed.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Step {
        if self.poll_decision(cx).is_ready() {
            return Step::Again;
        }
        let mut space = [0; 2048];
        while self.ended_at.is_none() && self.inbound.held().len() < HELD_MAX {
            let mut buf = ReadBuf::new(&mut space);
            match Pin::new(&mut self.io).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if buf.filled().is_empty() => self.ended_at = Some(Instant::now()),
                Poll::Ready(Ok(())) => self.inbound.hold(buf.filled()),
                other => return Step::Return(other),
            }
        }
        if self.ended_at.is_none() {
            return Step::Return(Poll::Pending);
        }
        Step::Return(self.poll_half_closed(cx).map(Ok))
    }

    fn poll_socket(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Step {
        let start = buf.filled().len();
        match self.inbound.poll_fill(&mut self.io, cx, buf, &mut self.machine) {
            Poll::Pending => return self.poll_deadline(cx),
            Poll::Ready(Err(error)) => return Step::Return(Poll::Ready(Err(error))),
            Poll::Ready(Ok(None)) if self.machine.in_body() => return Step::Return(Poll::Ready(Ok(()))),
            Poll::Ready(Ok(None)) => {
                self.ended_at = Some(Instant::now());
                return Step::Again;
            }
            Poll::Ready(Ok(Some(then))) => self.apply(then),
        }
        if buf.filled().len() > start {
            Step::Return(Poll::Ready(Ok(())))
        } else {
            Step::Again
        }
    }

    /// Reads on for a while, into nothing.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let new = || Linger {
            until: Instant::now() + LINGER,
            left: LINGER_BYTES,
        };
        let linger = self.linger.get_or_insert_with(new);
        let mut space = [0; 4096];
        while linger.left > 0 {
            let mut buf = ReadBuf::new(&mut space);
            match Pin::new(&mut self.io).poll_read(cx, &mut buf) {
                Poll::Pending => return self.timer.poll(cx, linger.until),
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                    linger.left = linger.left.saturating_sub(buf.filled().len());
                }
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
        Poll::Ready(())
    }
}

impl<IO> RequestGuard<IO> {
    /// Remembers how a write went.
    fn note_write(&mut self, cx: &mut Context<'_>, blocked: bool) {
        let unblocked = self.write_blocked && !blocked;
        self.write_blocked = blocked;
        if !blocked {
            self.last_write = Instant::now();
        }
        if unblocked && self.ended_at.is_some() {
            // `poll_end` waits for this, and hyper reads no more in this turn.
            cx.waker().wake_by_ref();
        }
    }
}

fn detect(bytes: &[u8]) -> Option<Protocol> {
    match bytes {
        _ if bytes.starts_with(PREFACE) => Some(Protocol::Http2),
        // Nothing yet is the beginning of it, too.
        _ if PREFACE.starts_with(bytes) => None,
        _ => Some(Protocol::Http1),
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for RequestGuard<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let step = match this.poll_without_data(cx, buf) {
                Some(step) => step,
                None if this.machine.is_transparent() => {
                    return Pin::new(&mut this.io).poll_read(cx, buf);
                }
                None => this.poll_socket(cx, buf),
            };
            if let Step::Return(poll) = step {
                return poll;
            }
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for RequestGuard<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, buf);
        this.note_write(cx, written.is_pending());
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = outbound::poll_write_vectored(&mut this.io, cx, bufs);
        this.note_write(cx, written.is_pending());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let refused = matches!(this.phase, Phase::Refused | Phase::Broken(_));
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
        }
        if refused {
            ready!(this.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
