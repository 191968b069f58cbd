//! Metrics of tokens: calls to their services, and what keeping them saves.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::Error;
use crate::resolve::destination::DestinationName;

/// Clones count in the same series.
#[derive(Debug, Clone)]
pub(super) struct TokenMetrics {
    calls: Family<CallLabels, Counter>,
    hits: Family<CacheLabels, Counter>,
    misses: Family<CacheLabels, Counter>,
    renewals: Family<CacheLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    /// Of the configuration, never of a request: there are as many as destinations.
    destination: String,
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
            calls: Family::default(),
            hits: Family::default(),
            misses: Family::default(),
            renewals: Family::default(),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        // The series are there before the first token is wanted.
        drop(self.cache());
        registry.register(
            "token_calls",
            "Calls to token services by destination and result",
            self.calls.clone(),
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

    /// The counters of one destination's calls.
    pub(super) fn calls(&self, destination: &DestinationName) -> CallCounts {
        let counts = CallCounts {
            calls: self.calls.clone(),
            destination: destination.to_string(),
        };
        // So that the first call is seen as an increase.
        drop(counts.of(OK));
        counts
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
pub(super) struct CallCounts {
    calls: Family<CallLabels, Counter>,
    destination: String,
}

const OK: &str = "ok";

impl CallCounts {
    pub(super) fn count<T>(&self, outcome: &Result<T, Error>) {
        self.of(outcome.as_ref().map_or_else(result, |_| OK)).inc();
    }

    fn of(&self, result: &'static str) -> Counter {
        self.calls.get_or_create_owned(&CallLabels {
            destination: self.destination.clone(),
            result,
        })
    }
}

fn result(error: &Error) -> &'static str {
    match error {
        Error::Tls(_) | Error::TokenServiceUrl(_) => "configuration",
        Error::TokenServiceUnreachable(_) => "unreachable",
        Error::TokenServiceTimedOut(_) => "timeout",
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
