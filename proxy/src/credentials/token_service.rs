//! Calls to token services, shared by all destinations.

mod exchange;
mod key;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use prometheus_client::registry::Registry;

use super::Error;
use super::metrics::TokenMetrics;
use super::oauth2::{Fetcher, Grant};
use super::token_cache::{Entry, Fetch};
use crate::connect::Dialer;
use crate::connect::tls::Authorities;
use crate::resolve::destination::{DestinationName, OAuth2Client};
use key::{Key, Keys};

pub(super) use exchange::{Answer, Call, Caller};
pub(super) use tls::ServiceTls;

/// Token entries that are kept; the least used go first.
const CAPACITY: u64 = 10_000;
/// An entry that nobody looked up for so long belongs to a configuration that is gone.
const UNUSED: Duration = Duration::from_hours(1);

/// Fetches tokens and keeps them; one per process.
pub struct TokenService {
    caller: Arc<Caller>,
    authorities: Authorities,
    keys: Keys,
    entries: Cache<Key, Arc<Entry>>,
    metrics: TokenMetrics,
}

impl TokenService {
    /// `authorities` are trusted beside the default roots and those of the destination.
    pub fn new(dialer: Arc<dyn Dialer>, authorities: Authorities) -> Arc<Self> {
        Arc::new(Self {
            caller: Arc::new(Caller::new(dialer)),
            authorities,
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
        let tls = ServiceTls::new(client, &self.authorities);
        let tls = tls.map_err(|error| Error::Tls(Arc::new(error)))?;
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
}
