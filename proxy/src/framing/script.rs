//! A connection whose other side is written down, for tests.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Gives out its pieces, one a read, and then the end; takes whatever is written.
#[derive(Debug, Default)]
pub(super) struct Script(VecDeque<Vec<u8>>);

impl Script {
    /// The same bytes, cut at these places.
    pub(super) fn cut(bytes: &[u8], cuts: &[usize]) -> Self {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        cuts.dedup();
        Self(
            cuts.windows(2)
                .map(|ends| bytes[ends[0]..ends[1]].to_vec())
                .collect(),
        )
    }

    pub(super) fn whole(bytes: &[u8]) -> Self {
        Self::cut(bytes, &[])
    }

    pub(super) fn bytewise(bytes: &[u8]) -> Self {
        Self(bytes.iter().map(|byte| vec![*byte]).collect())
    }
}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(mut piece) = self.0.pop_front() {
            let rest = piece.split_off(piece.len().min(buf.remaining()));
            buf.put_slice(&piece);
            if !rest.is_empty() {
                self.0.push_front(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Reads in steps of `size` until there is nothing more, and says how it ended.
pub(super) fn read_all(io: &mut (impl AsyncRead + Unpin), size: usize) -> (Vec<u8>, io::Result<()>) {
    let mut all = Vec::new();
    let mut space = vec![0; size];
    loop {
        let mut buf = ReadBuf::new(&mut space);
        let read = pin!(poll_fn(|cx| Pin::new(&mut *io).poll_read(cx, &mut buf)));
        match read.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Err(error)) => return (all, Err(error)),
            Poll::Ready(Ok(())) if !buf.filled().is_empty() => all.extend_from_slice(buf.filled()),
            Poll::Ready(Ok(())) | Poll::Pending => return (all, Ok(())),
        }
    }
}
