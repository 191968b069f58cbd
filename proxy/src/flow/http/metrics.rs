//! Counters of the HTTP plane, looked up once per destination.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::resolve::destination::DestinationName;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfDestination {
    destination: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfError {
    destination: String,
    error: &'static str,
}

/// All counters of the plane. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct HttpMetrics {
    received: Family<OfDestination, Counter>,
    answered: Family<OfDestination, Counter>,
    repeated: Family<OfDestination, Counter>,
    errors: Family<OfError, Counter>,
}

impl HttpMetrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "received_requests",
            "Requests received from applications",
            self.received.clone(),
        );
        registry.register(
            "target_system_requests",
            "Requests that the target system answered",
            self.answered.clone(),
        );
        registry.register(
            "repeated_requests",
            "Requests sent to the target system again",
            self.repeated.clone(),
        );
        registry.register(
            "request_errors",
            "Requests answered by the proxy itself",
            self.errors.clone(),
        );
    }

    pub(super) fn of(&self, name: &DestinationName) -> DestinationMetrics {
        let labels = OfDestination {
            destination: name.to_string(),
        };
        DestinationMetrics {
            received: self.received.get_or_create_owned(&labels),
            answered: self.answered.get_or_create_owned(&labels),
            repeated: self.repeated.get_or_create_owned(&labels),
            errors: self.errors.clone(),
            destination: labels.destination,
        }
    }
}

/// One destination's counters: plain atomics.
#[derive(Debug)]
pub(super) struct DestinationMetrics {
    pub received: Counter,
    pub answered: Counter,
    pub repeated: Counter,
    errors: Family<OfError, Counter>,
    destination: String,
}

impl DestinationMetrics {
    pub(super) fn failed(&self, error: &'static str) {
        self.errors
            .get_or_create(&OfError {
                destination: self.destination.clone(),
                error,
            })
            .inc();
    }
}
