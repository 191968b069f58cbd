//! Certificates and TLS servers on 127.0.0.1 for tests.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::resolve::keystore::{CertificateStore, ClientIdentity};

/// A certificate authority.
pub(crate) struct Authority {
    pub(crate) certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a root").der().clone();
        Self {
            certificate,
            issuer: Issuer::new(params, key),
        }
    }

    pub(crate) fn store(&self) -> CertificateStore {
        CertificateStore(vec![self.certificate.clone()])
    }

    /// A certificate for `names` (subjectAltName), issued by this authority.
    pub(crate) fn issue(&self, names: &[&str]) -> ClientIdentity {
        self.issue_with(names, |_| {})
    }

    pub(crate) fn issue_with(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> ClientIdentity {
        let (params, key) = leaf(names, change);
        let certificate = params
            .signed_by(&key, &self.issuer)
            .expect("a leaf")
            .der()
            .clone();
        identity(certificate, &key)
    }
}

pub(crate) fn self_signed(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> ClientIdentity {
    let (params, key) = leaf(names, change);
    identity(
        params.self_signed(&key).expect("a certificate").der().clone(),
        &key,
    )
}

fn leaf(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> (CertificateParams, KeyPair) {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    change(&mut params);
    (params, KeyPair::generate().expect("a key"))
}

fn identity(certificate: CertificateDer<'static>, key: &KeyPair) -> ClientIdentity {
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    ClientIdentity {
        chain: vec![certificate],
        key: Arc::new(key),
        authorities: CertificateStore::default(),
    }
}

pub(crate) fn common_name(name: &str) -> impl FnOnce(&mut CertificateParams) {
    move |params| params.distinguished_name.push(DnType::CommonName, name)
}

pub(crate) fn expired(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2001, 1, 1);
    params.not_after = date_time_ymd(2002, 1, 1);
}

/// What a server demands.
#[derive(Clone, Copy)]
pub(crate) struct Demands<'a> {
    pub(crate) client_authority: Option<&'a Authority>,
    pub(crate) versions: &'static [&'static rustls::SupportedProtocolVersion],
    pub(crate) alpn: &'a [&'a str],
}

impl Default for Demands<'_> {
    fn default() -> Self {
        Self {
            client_authority: None,
            versions: rustls::ALL_VERSIONS,
            alpn: &[],
        }
    }
}

pub(crate) fn config(identity: &ClientIdentity, demands: Demands<'_>) -> ServerConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder
        .with_protocol_versions(demands.versions)
        .expect("versions");
    let builder = match demands.client_authority {
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.certificate.clone()).expect("a root");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        }
        None => builder.with_no_client_auth(),
    };
    let key = identity.key.clone_key();
    let mut config = builder
        .with_single_cert(identity.chain.clone(), key)
        .expect("a certificate");
    config.alpn_protocols = demands.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

/// Says `<server name, or -> <resumed, or full>` to whoever completes a handshake, and closes.
pub(crate) async fn serve(config: ServerConfig) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(tcp).await else {
                continue;
            };
            let tls = stream.get_ref().1;
            let resumed = tls.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
            let name = tls.server_name().unwrap_or("-").to_owned();
            let text = format!("{name} {}", if resumed { "resumed" } else { "full" });
            let _ = stream.write_all(text.as_bytes()).await;
            let _ = stream.shutdown().await;
            let _ = stream.read(&mut [0; 16]).await;
        }
    });
    address
}
