//! (stand-in)
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Error, TlsFailure};
use crate::resolve::destination::TlsPolicy;
use crate::resolve::keystore::CertificateStore;

#[derive(Clone)]
pub struct TlsClient(Arc<rustls::ClientConfig>);

impl TlsClient {
    pub fn new(policy: &TlsPolicy, _extra_roots: &CertificateStore, alpn: &[&[u8]]) -> Result<Self, Error> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(policy.trust_store.0.iter().cloned());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has both versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(Self(Arc::new(config)))
    }

    pub async fn handshake(
        &self,
        tcp: TcpStream,
        host: &str,
        deadline: tokio::time::Instant,
    ) -> Result<TlsStream<TcpStream>, Error> {
        let name = rustls_pki_types::ServerName::try_from(host.to_owned()).map_err(|_e| Error::Tls(TlsFailure::Protocol))?;
        match tokio::time::timeout_at(deadline, TlsConnector::from(Arc::clone(&self.0)).connect(name, tcp)).await {
            Err(_elapsed) => Err(Error::TimedOut(Duration::ZERO)),
            Ok(Err(_)) => Err(Error::Tls(TlsFailure::CertificateNotTrusted)),
            Ok(Ok(stream)) => Ok(stream),
        }
    }
}

pub fn negotiated_h2(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(b"h2")
}
