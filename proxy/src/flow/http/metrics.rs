//! Metrics of the HTTP plane, looked up once per destination.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::resolve::destination::DestinationName;
use crate::telemetry::durations::Durations;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfDestination {
    /// Of the configuration, never of a request: there are as many as destinations.
    destination: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfError {
    destination: String,
    error: &'static str,
}

/// All metrics of the plane. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct HttpMetrics {
    received: Counter,
    answered: Counter,
    seconds: Durations,
    received_by_destination: Family<OfDestination, Counter>,
    answered_by_destination: Family<OfDestination, Counter>,
    repeated: Family<OfDestination, Counter>,
    errors: Errors,
}

/// Errors by destination and kind. Which kinds there are of a destination is remembered, because
/// a family does not tell.
#[derive(Debug, Clone, Default)]
struct Errors {
    counted: Family<OfError, Counter>,
    kinds: Arc<Mutex<HashMap<String, BTreeSet<&'static str>>>>,
}

impl Errors {
    fn count(&self, destination: &str, error: &'static str) {
        let labels = OfError {
            destination: destination.to_owned(),
            error,
        };
        self.counted.get_or_create(&labels).inc();
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.entry(labels.destination).or_default().insert(error);
    }

    fn forget(&self, destination: &str) {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        for error in kinds.remove(destination).unwrap_or_default() {
            self.counted.remove(&OfError {
                destination: destination.to_owned(),
                error,
            });
        }
    }
}

impl HttpMetrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "received_requests",
            "Total Received Requests",
            self.received.clone(),
        );
        registry.register(
            "target_system_requests",
            "Total Target Systems Requests",
            self.answered.clone(),
        );
        registry.register(
            "request_duration_seconds",
            "Time from the head of a request to the head of its answer",
            self.seconds.clone(),
        );
        registry.register(
            "destination_received_requests",
            "Requests received from applications, by destination",
            self.received_by_destination.clone(),
        );
        registry.register(
            "destination_answered_requests",
            "Requests that the target system answered, by destination",
            self.answered_by_destination.clone(),
        );
        registry.register(
            "repeated_requests",
            "Requests sent to the target system again",
            self.repeated.clone(),
        );
        registry.register(
            "request_errors",
            "Requests answered by the proxy itself",
            self.errors.counted.clone(),
        );
    }

    /// Ends the series of a destination that is gone, or they would grow without end.
    pub fn forget(&self, destination: &str) {
        let labels = OfDestination {
            destination: destination.to_owned(),
        };
        for family in [
            &self.received_by_destination,
            &self.answered_by_destination,
            &self.repeated,
        ] {
            family.remove(&labels);
        }
        self.errors.forget(destination);
    }

    pub(super) fn of(&self, name: &DestinationName) -> DestinationMetrics {
        let labels = OfDestination {
            destination: name.to_string(),
        };
        let by = |family: &Family<OfDestination, Counter>| family.get_or_create_owned(&labels);
        DestinationMetrics {
            received: [self.received.clone(), by(&self.received_by_destination)],
            answered: [self.answered.clone(), by(&self.answered_by_destination)],
            repeated: by(&self.repeated),
            seconds: self.seconds.clone(),
            errors: self.errors.clone(),
            destination: labels.destination,
        }
    }
}

/// One destination's metrics. The counters are plain atomics.
#[derive(Debug)]
pub(super) struct DestinationMetrics {
    /// In all, and for this one.
    received: [Counter; 2],
    answered: [Counter; 2],
    pub repeated: Counter,
    seconds: Durations,
    errors: Errors,
    destination: String,
}

impl DestinationMetrics {
    pub(super) fn received(&self) {
        count(&self.received);
    }

    /// Requests of this destination so far.
    pub(super) fn total(&self) -> u64 {
        let [_, of_destination] = &self.received;
        of_destination.get()
    }

    pub(super) fn answered(&self) {
        count(&self.answered);
    }

    /// The application has its answer, whatever that is.
    pub(super) fn finished(&self, took: Duration) {
        self.seconds.observe(took);
    }

    pub(super) fn failed(&self, error: &'static str) {
        self.errors.count(&self.destination, error);
    }
}

fn count(counters: &[Counter]) {
    for counter in counters {
        counter.inc();
    }
}
