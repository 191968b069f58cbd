//! The guard between a target and hyper's client.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::handle::ResponseHandle;
use super::inbound::Inbound;
use super::machine::{Responses, Then};
use super::{Limits, Violation, outbound};

/// Lets only well-framed responses through. Anything else is an I/O error that carries the [`Violation`]: find it
/// with [`Violation::of`].
///
/// Interim responses pass (hyper takes 100 and 103 out by itself). After a 101 that was asked for, and in a body
/// that lasts until the connection closes, bytes pass unseen. Bytes behind a complete response fail the connection
/// at hyper's next read; [`ResponseHandle::violation`] knows it at once.
#[derive(Debug)]
pub struct ResponseGuard<IO> {
    io: IO,
    handle: ResponseHandle,
    machine: Responses,
    inbound: Inbound,
    broken: Option<Violation>,
}

impl<IO> ResponseGuard<IO> {
    pub fn new(io: IO, limits: Limits) -> (Self, ResponseHandle) {
        let handle = ResponseHandle::new();
        let machine = Responses::new(limits, handle.clone());
        let guard = Self {
            io,
            handle: handle.clone(),
            machine,
            inbound: Inbound::default(),
            broken: None,
        };
        (guard, handle)
    }

    pub fn get_ref(&self) -> &IO {
        &self.io
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for ResponseGuard<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if buf.remaining() == 0 || this.inbound.deliver(buf) {
                return Poll::Ready(Ok(()));
            }
            if let Some(violation) = this.broken {
                return Poll::Ready(Err(violation.into()));
            }
            if this.machine.is_transparent() {
                return Pin::new(&mut this.io).poll_read(cx, buf);
            }
            let start = buf.filled().len();
            let fill = this.inbound.poll_fill(&mut this.io, cx, buf, &mut this.machine);
            match ready!(fill)? {
                None => return Poll::Ready(Ok(())),
                Some(Then::Refuse(violation) | Then::Break(violation)) => {
                    this.handle.poison(violation);
                    this.broken = Some(violation);
                }
                Some(Then::More | Then::Hold) => {}
            }
            if buf.filled().len() > start {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for ResponseGuard<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        outbound::poll_write_vectored(&mut self.io, cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
