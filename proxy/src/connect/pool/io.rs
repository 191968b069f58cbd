//! The byte stream to a target, with or without TLS.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::connect::TlsFailure;
use crate::connect::tls::classify_io;

/// The stream to a target.
///
/// A server may answer early and close (`413` to a large upload). Its answer then
/// waits in the receive buffer while writes fail already; so failed writes are
/// swallowed, and the end of the connection is what reading finds.
pub struct TargetIo {
    stream: Stream,
    write_failed: bool,
    refusal: TlsRefusal,
}

/// Why a server ended a TLS connection after the handshake, kept where errors of
/// HTTP/2, which lose their causes, cannot lose it.
#[derive(Debug, Clone, Default)]
pub struct TlsRefusal(Arc<OnceLock<TlsFailure>>);

impl TlsRefusal {
    pub fn get(&self) -> Option<TlsFailure> {
        self.0.get().cloned()
    }

    fn note(&self, error: &io::Error) {
        if let Some(failure) = classify_io(error) {
            let _only_the_first_counts = self.0.set(failure);
        }
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl TargetIo {
    pub fn plain(tcp: TcpStream) -> Self {
        Self {
            stream: Stream::Plain(tcp),
            write_failed: false,
            refusal: TlsRefusal::default(),
        }
    }

    pub fn tls(stream: TlsStream<TcpStream>) -> Self {
        Self {
            stream: Stream::Tls(Box::new(stream)),
            write_failed: false,
            refusal: TlsRefusal::default(),
        }
    }

    pub(super) fn refusal(&self) -> TlsRefusal {
        self.refusal.clone()
    }

    fn written(&mut self, result: io::Result<usize>, offered: usize) -> io::Result<usize> {
        match result {
            Err(error) if is_closed_by_peer(&error) => {
                self.write_failed = true;
                Ok(offered)
            }
            other => other,
        }
    }
}

fn is_closed_by_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

impl AsyncRead for TargetIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match &mut this.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Stream::Tls(tls) => Pin::new(tls).poll_read(cx, buf).map_err(|error| {
                this.refusal.note(&error);
                error
            }),
        }
    }
}

impl AsyncWrite for TargetIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.write_failed {
            return Poll::Ready(Ok(buf.len()));
        }
        let result = ready!(match &mut this.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Stream::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        });
        Poll::Ready(this.written(result, buf.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let offered = bufs.iter().map(|buf| buf.len()).sum();
        if this.write_failed {
            return Poll::Ready(Ok(offered));
        }
        let result = ready!(match &mut this.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Stream::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        });
        Poll::Ready(this.written(result, offered))
    }

    fn is_write_vectored(&self) -> bool {
        matches!(self.stream, Stream::Plain(_))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.write_failed {
            return Poll::Ready(Ok(()));
        }
        let result = ready!(match &mut this.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_flush(cx),
        });
        Poll::Ready(this.written(result.map(|()| 0), 0).map(drop))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
