//! What makes two connections differ.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::LazyLock;

use crate::resolve::destination::{HostnameVerifier, HttpDestination, Scheme, TlsPolicy, Version};

/// Everything that a connection's identity depends on. Connections are shared only
/// under equal keys; certificates and keys appear as keyed hashes only.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PoolKey {
    /// A changed configuration starts with connections of its own.
    pub version: Version,
    pub scheme: Scheme,
    /// Also the server name of TLS.
    pub host: String,
    pub port: u16,
    pub tls: Option<TlsKey>,
    /// HTTP/2 without asking (RFC 9113, section 3.3).
    pub http2_prior_knowledge: bool,
}

/// The part of [`TlsPolicy`] in a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TlsKey {
    trust_all: bool,
    browser_compatible: bool,
    trust_store: u64,
    client_identity: Option<u64>,
}

static HASH_KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);

impl PoolKey {
    pub fn new(version: Version, destination: &HttpDestination, http2_prior_knowledge: bool) -> Self {
        Self {
            version,
            scheme: destination.url.scheme,
            host: destination.url.host.clone(),
            port: destination.url.port,
            tls: destination.tls.as_deref().map(TlsKey::new),
            http2_prior_knowledge,
        }
    }
}

impl TlsKey {
    pub(super) fn new(policy: &TlsPolicy) -> Self {
        Self {
            trust_all: policy.trust_all,
            browser_compatible: policy.hostname_verifier == HostnameVerifier::BrowserCompatible,
            trust_store: hashed(|hasher| policy.trust_store.0.hash(hasher)),
            client_identity: policy.client_identity.as_ref().map(|identity| {
                hashed(|hasher| {
                    identity.chain.hash(hasher);
                    identity.key.secret_der().hash(hasher);
                    identity.authorities.0.hash(hasher);
                })
            }),
        }
    }
}

fn hashed(write: impl FnOnce(&mut std::hash::DefaultHasher)) -> u64 {
    let mut hasher = HASH_KEY.build_hasher();
    write(&mut hasher);
    hasher.finish()
}
