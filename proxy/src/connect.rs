//! Step 5 of the data path: a connection to the target.

pub mod direct;
pub mod pool;
pub mod tls;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::resolve::destination::SocketOptions;

/// Why there is no connection. The texts of the classes are part of the documented messages.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("Host not found.")]
    HostNotFound(#[source] io::Error),
    #[error("Connection refused.")]
    Refused(#[source] io::Error),
    #[error("Connection reset.")]
    Reset(#[source] io::Error),
    #[error("Network unreachable.")]
    Unreachable(#[source] io::Error),
    /// All local ports towards this address are in use.
    #[error("No local port available.")]
    NoLocalPort(#[source] io::Error),
    /// The target is a virtual IP or a listener of this proxy.
    #[error("Address not allowed.")]
    AddressNotAllowed,
    #[error("TLS handshake failed: {0}.")]
    Tls(TlsFailure),
    #[error("connect timed out after {} s", .0.as_secs())]
    TimedOut(Duration),
    /// Anything else the operating system says.
    #[error("Connection failed.")]
    Io(#[source] io::Error),
}

/// The class of a failed TLS handshake; the details are for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsFailure {
    #[error("certificate expired")]
    CertificateExpired,
    #[error("certificate not trusted")]
    CertificateNotTrusted,
    #[error("certificate does not match the host name")]
    CertificateNameMismatch,
    #[error("certificate has no subjectAltName")]
    CertificateWithoutSan,
    #[error("client certificate required or refused")]
    ClientCertificate,
    #[error("protocol error")]
    Protocol,
    #[error("connection closed")]
    Closed,
}

/// Opens TCP connections to targets: the seam between the planes and the network.
pub trait Dialer: Send + Sync + 'static {
    /// Connects to `host` (a name or an address literal without brackets) within `timeout`.
    fn dial<'a>(
        &'a self,
        host: &'a str,
        port: u16,
        options: &'a SocketOptions,
        timeout: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<TcpStream, Error>> + Send + 'a>>;
}
