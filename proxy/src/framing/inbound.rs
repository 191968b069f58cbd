//! Bytes between the socket and hyper that cannot stay where they were read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};

use super::machine::{Judged, Machine, Then};

/// More memory than this is given back when a connection does not need it any more.
const KEPT: usize = 4096;

/// The beginning of an incomplete head, or what was read behind an offered upgrade. Empty most of the time.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    bytes: BytesMut,
    /// How many of them may be handed on.
    cleared: usize,
}

impl Inbound {
    /// Bytes that nobody has cleared.
    pub(super) fn held(&self) -> &[u8] {
        &self.bytes[self.cleared..]
    }

    /// Hands on what is cleared; false if there is nothing.
    pub(super) fn deliver(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let len = self.cleared.min(buf.remaining());
        buf.put_slice(&self.bytes[..len]);
        self.bytes.advance(len);
        self.cleared -= len;
        if self.bytes.is_empty() && len > KEPT {
            self.bytes = BytesMut::new();
        }
        len > 0
    }

    /// Reads into `buf` and leaves there what is good. Nothing at the end of the stream.
    pub(super) fn poll_fill<IO: AsyncRead + Unpin>(
        &mut self,
        io: &mut IO,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        machine: &mut impl Machine,
    ) -> Poll<io::Result<Option<Then>>> {
        let start = buf.filled().len();
        ready!(Pin::new(io).poll_read(cx, buf))?;
        if buf.filled().len() == start {
            return Poll::Ready(Ok(None));
        }
        let new = &buf.filled()[start..];
        if !self.bytes.is_empty() {
            self.bytes.extend_from_slice(new);
            buf.set_filled(start);
            return Poll::Ready(Ok(Some(self.judge(machine))));
        }
        let Judged { accepted, then } = machine.judge(new);
        if matches!(then, Then::More | Then::Hold) && accepted < new.len() {
            self.bytes.extend_from_slice(&new[accepted..]);
        }
        buf.set_filled(start + accepted);
        Poll::Ready(Ok(Some(then)))
    }

    /// Judges what is held.
    pub(super) fn judge(&mut self, machine: &mut impl Machine) -> Then {
        let Judged { accepted, then } = machine.judge(self.held());
        self.cleared += accepted;
        if matches!(then, Then::Refuse(_) | Then::Break(_)) {
            self.bytes.truncate(self.cleared);
        }
        then
    }

    pub(super) fn hold(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Drops what is held and has this handed on instead.
    pub(super) fn replace_held(&mut self, bytes: &[u8]) {
        self.bytes.truncate(self.cleared);
        self.bytes.extend_from_slice(bytes);
        self.cleared = self.bytes.len();
    }
}
