//! How long things take, as a histogram that many threads fill without a lock.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// From an answer out of a cache nearby to one that was nearly given up, in seconds.
const BOUNDS: [f64; 13] = [
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    1.0,
    2.5,
    10.0,
    60.0,
    f64::INFINITY,
];

/// Clones are filled together.
#[derive(Debug, Clone, Default)]
pub struct Durations(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Each counts what none before it does.
    buckets: [AtomicU64; BOUNDS.len()],
    nanoseconds: AtomicU64,
}

impl Durations {
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let at = BOUNDS.partition_point(|bound| *bound < seconds);
        if let Some(bucket) = self.0.buckets.get(at) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.0.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

impl EncodeMetric for Durations {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let counts = self
            .0
            .buckets
            .each_ref()
            .map(|bucket| bucket.load(Ordering::Relaxed));
        let mut buckets = [(0.0, 0); BOUNDS.len()];
        for (bucket, both) in buckets.iter_mut().zip(BOUNDS.into_iter().zip(counts)) {
            *bucket = both;
        }
        let sum = Duration::from_nanos(self.0.nanoseconds.load(Ordering::Relaxed));
        // Not a counter of its own: it has to be what the buckets add up to.
        let count = counts.iter().sum();
        encoder.encode_histogram::<NoLabelSet>(sum.as_secs_f64(), count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::registry::{Exposition, Metrics, strict};

    #[test]
    fn durations_are_counted_where_they_belong() {
        let durations = Durations::default();
        for milliseconds in [0, 1, 3, 200, 100_000] {
            durations.observe(Duration::from_millis(milliseconds));
        }
        let mut metrics = Metrics::new();
        metrics.root().register("seconds", "Seconds", durations);
        let text = metrics.encode(Exposition::OpenMetrics).unwrap();
        let families = strict::parse(&text, Exposition::OpenMetrics).unwrap();
        let samples = &families["tp_seconds"].samples;
        let upto = |bound: &str| samples[&format!("tp_seconds_bucket{{le=\"{bound}\"}}")].to_string();
        let told = ["0.001", "0.0025", "0.005", "0.25", "60.0", "+Inf"].map(upto);
        assert_eq!(told, ["2", "2", "3", "4", "4", "5"]);
        assert_eq!(samples["tp_seconds_sum"].to_string(), "100.204");
    }
}
