//! Metrics of tokens: calls to their services, and what keeping them saves.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::Error;

/// Clones count in the same series.
#[derive(Debug, Clone)]
pub(super) struct TokenMetrics {
    requests: Family<RequestLabels, Counter>,
    hits: Family<CacheLabels, Counter>,
    misses: Family<CacheLabels, Counter>,
    renewals: Family<CacheLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CacheLabels {
    cache: &'static str,
}

const TOKENS: CacheLabels = CacheLabels { cache: "token" };

impl TokenMetrics {
    pub(super) fn new() -> Self {
        Self {
            requests: Family::default(),
            hits: Family::default(),
            misses: Family::default(),
            renewals: Family::default(),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        // The series are there before the first token is wanted.
        drop(self.cache());
        drop(self.calls().of(OK));
        registry.register(
            "token_requests",
            "Calls to token services by result",
            self.requests.clone(),
        );
        registry.register("cache_hits", "Look-ups answered at once", self.hits.clone());
        registry.register(
            "cache_misses",
            "Look-ups that had to wait or failed",
            self.misses.clone(),
        );
        registry.register(
            "cache_renewals",
            "Entries fetched again ahead of their end",
            self.renewals.clone(),
        );
    }

    pub(super) fn calls(&self) -> CallCounts {
        CallCounts(self.requests.clone())
    }

    /// The counters themselves: a hit takes one addition, no look-up.
    pub(super) fn cache(&self) -> CacheCounts {
        let of = |family: &Family<CacheLabels, Counter>| family.get_or_create_owned(&TOKENS);
        CacheCounts {
            hits: of(&self.hits),
            misses: of(&self.misses),
            renewals: of(&self.renewals),
        }
    }
}

#[derive(Debug)]
pub(super) struct CallCounts(Family<RequestLabels, Counter>);

const OK: &str = "ok";

impl CallCounts {
    pub(super) fn count<T>(&self, outcome: &Result<T, Error>) {
        self.of(outcome.as_ref().map_or_else(result, |_| OK)).inc();
    }

    fn of(&self, result: &'static str) -> Counter {
        self.0.get_or_create_owned(&RequestLabels { result })
    }
}

fn result(error: &Error) -> &'static str {
    match error {
        Error::Tls(_) | Error::TokenServiceUrl(_) => "configuration",
        Error::TokenServiceUnreachable(_) => "unreachable",
        Error::TokenServiceTimedOut(_) | Error::TokenServiceBusy(_) => "timeout",
        Error::TokenServiceProtocol => "protocol",
        Error::TokenServiceStatus { .. } => "refused",
        Error::InvalidTokenResponse(_) => "invalid_token",
        Error::Cancelled => "cancelled",
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct CacheCounts {
    pub(super) hits: Counter,
    pub(super) misses: Counter,
    pub(super) renewals: Counter,
}
