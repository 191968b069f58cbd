//! Calls to token services, shared by all destinations.

mod exchange;
mod key;

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use prometheus_client::registry::Registry;

use super::Error;
use super::metrics::TokenMetrics;
use super::oauth2::{Fetcher, Grant};
use super::token_cache::{Entry, Fetch};
use crate::connect::tls::{Alpn, TlsClient};
use crate::connect::{Dialer, tls};
use crate::resolve::destination::{DestinationName, HostnameVerifier, OAuth2Client, Scheme, TlsPolicy};
use crate::resolve::keystore::CertificateStore;
use key::{Key, Keys};

pub(super) use exchange::{Answer, Call, Caller};

/// Token entries that are kept; the least used go first.
const CAPACITY: u64 = 10_000;
/// An entry that nobody looked up for so long belongs to a configuration that is gone.
const UNUSED: Duration = Duration::from_hours(1);

static DEFAULT_POLICY: TlsPolicy = TlsPolicy {
    trust_all: false,
    trust_store: CertificateStore(Vec::new()),
    hostname_verifier: HostnameVerifier::Strict,
    client_identity: None,
};

/// Fetches tokens and keeps them; one per process.
pub struct TokenService {
    caller: Arc<Caller>,
    extra_roots: CertificateStore,
    keys: Keys,
    entries: Cache<Key, Arc<Entry>>,
    metrics: TokenMetrics,
}

impl TokenService {
    /// `extra_roots` are trusted beside the default roots and those of the destination.
    pub fn new(dialer: Arc<dyn Dialer>, extra_roots: CertificateStore) -> Arc<Self> {
        Arc::new(Self {
            caller: Arc::new(Caller::new(dialer)),
            extra_roots,
            keys: Keys::new(),
            entries: Cache::builder()
                .max_capacity(CAPACITY)
                .time_to_idle(UNUSED)
                .build(),
            metrics: TokenMetrics::new(),
        })
    }

    pub fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// The entry of a destination; equal configurations of one name share it.
    pub(super) fn entry(
        &self,
        name: &DestinationName,
        client: &Arc<OAuth2Client>,
        grant: Grant,
    ) -> Result<Arc<Entry>, Error> {
        let key = self.keys.of(name, client, &grant);
        if let Some(entry) = self.entries.get(&key) {
            return Ok(entry);
        }
        let tls = self.tls(client).map_err(|error| Error::Tls(Arc::new(error)))?;
        let calls = self.metrics.calls();
        let fetcher = Fetcher::new(Arc::clone(&self.caller), Arc::clone(client), grant, tls, calls);
        let fetcher = Arc::new(fetcher.map_err(|error| Error::TokenServiceUrl(Arc::new(error)))?);
        let fetch: Fetch = Box::new(move || {
            let fetcher = Arc::clone(&fetcher);
            Box::pin(async move { fetcher.fetch().await })
        });
        let counts = self.metrics.cache();
        Ok(self
            .entries
            .get_with(key, || Entry::new(name.to_string(), fetch, counts)))
    }

    fn tls(&self, client: &OAuth2Client) -> Result<Option<TlsClient>, tls::Error> {
        if client.token_service_url.scheme == Scheme::Http {
            return Ok(None);
        }
        let policy = client.tls.as_deref().unwrap_or(&DEFAULT_POLICY);
        TlsClient::new(policy, Alpn::Http1, &self.extra_roots).map(Some)
    }
}
