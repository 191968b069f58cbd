//! Writes on their way to the socket.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use smallvec::SmallVec;
use tokio::io::AsyncWrite;

/// Up to here to copy bytes costs less than to have the kernel collect them.
const COPIED: usize = 2048;

/// Writes what is short, such as a head and a short body, with send(2). writev(2) takes a longer way
/// through the kernel.
pub(super) fn poll_write_vectored<IO: AsyncWrite + Unpin>(
    io: &mut IO,
    cx: &mut Context<'_>,
    slices: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    if let [slice] = slices {
        return Pin::new(io).poll_write(cx, slice);
    }
    let length: usize = slices.iter().map(|slice| slice.len()).sum();
    if length > COPIED {
        return Pin::new(io).poll_write_vectored(cx, slices);
    }
    let mut copy = SmallVec::<[u8; COPIED]>::new();
    for slice in slices {
        copy.extend_from_slice(slice);
    }
    Pin::new(io).poll_write(cx, &copy)
}
