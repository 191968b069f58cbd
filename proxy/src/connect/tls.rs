//! TLS towards targets and token services.

mod authorities;
mod classify;
mod names;
mod roots;
mod verifier;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::client::ResolvesClientCert;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::{DnsName, ServerName};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tracing::debug;

use super::TlsFailure;
use crate::resolve::destination::TlsPolicy;
use crate::resolve::keystore::{CertificateStore, ClientIdentity};

pub use authorities::Authorities;
pub use classify::classify_io;

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

impl Alpn {
    fn protocols(self) -> Vec<Vec<u8>> {
        match self {
            Self::Http2OrHttp1 => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Self::Http1 => vec![b"http/1.1".to_vec()],
            Self::None => Vec::new(),
        }
    }
}

/// One TLS policy, ready for handshakes. Sessions are resumed only within it and its clones.
#[derive(Clone)]
pub struct TlsClient {
    connector: TlsConnector,
    /// Some server asked for a client certificate once.
    certificate_requested: Arc<AtomicBool>,
}

impl TlsClient {
    /// `extra_roots` are trusted beside the default roots and those of the policy.
    /// The first call reads the roots of the system.
    pub fn new(policy: &TlsPolicy, alpn: Alpn, extra_roots: &CertificateStore) -> Result<Self, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = verifier::for_policy(policy, extra_roots, &provider);
        let certificate_requested = Arc::new(AtomicBool::new(false));
        let identity = policy.client_identity.as_ref();
        let resolver = ClientCertificate {
            key: identity
                .map(|identity| certified_key(identity, &provider))
                .transpose()?,
            requested: Arc::clone(&certificate_requested),
        };
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder
            .with_safe_default_protocol_versions()
            .map_err(Error::Configuration)?;
        let mut config = builder
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = alpn.protocols();
        Ok(Self {
            connector: Arc::new(config).into(),
            certificate_requested,
        })
    }

    /// `host` is a name or an address literal without brackets; addresses are not sent
    /// as SNI (RFC 6066, section 3). Gives up at `deadline`; `timeout` is the whole
    /// limit that it stems from, for the message.
    pub async fn handshake(
        &self,
        tcp: TcpStream,
        host: &str,
        deadline: Instant,
        timeout: Duration,
    ) -> Result<TlsStream<TcpStream>, super::Error> {
        let name = server_name(host).ok_or(super::Error::Tls(TlsFailure::CertificateNameMismatch))?;
        match timeout_at(deadline, self.connector.connect(name, tcp)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => {
                debug!(%error, host, "TLS handshake failed");
                Err(classify::handshake(
                    error,
                    self.certificate_requested.load(Ordering::Relaxed),
                ))
            }
            Err(_elapsed) => Err(super::Error::TimedOut(timeout)),
        }
    }
}

/// Whether HTTP/2 was agreed on.
pub fn negotiated_h2(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(b"h2")
}

fn server_name(host: &str) -> Option<ServerName<'static>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Some(ServerName::IpAddress(address.into()));
    }
    // A final dot makes a name absolute; it is no part of names in certificates or SNI.
    let name = host.strip_suffix('.').unwrap_or(host).to_owned();
    DnsName::try_from(name).ok().map(ServerName::DnsName)
}

fn certified_key(identity: &ClientIdentity, provider: &CryptoProvider) -> Result<SingleCertAndKey, Error> {
    let key = identity.key.clone_key();
    let key = CertifiedKey::from_der(identity.chain.clone(), key, provider).map_err(Error::ClientIdentity)?;
    Ok(SingleCertAndKey::from(key))
}

/// Answers requests for a client certificate, and remembers that there was one:
/// with TLS 1.2 a missing certificate ends in a `handshake_failure` like many
/// other things.
#[derive(Debug)]
struct ClientCertificate {
    key: Option<SingleCertAndKey>,
    requested: Arc<AtomicBool>,
}

impl ResolvesClientCert for ClientCertificate {
    fn resolve(
        &self,
        root_hint_subjects: &[&[u8]],
        schemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.requested.store(true, Ordering::Relaxed);
        self.key.as_ref()?.resolve(root_hint_subjects, schemes)
    }

    /// True even without one, so that `resolve` is asked.
    fn has_certs(&self) -> bool {
        true
    }
}

#[cfg(test)]
pub(crate) mod test_server;
#[cfg(test)]
mod tests;
