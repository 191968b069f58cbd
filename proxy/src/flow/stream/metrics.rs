//! Metrics of the TCP plane.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Clones count in the same series.
#[derive(Debug, Clone, Default)]
pub struct TcpMetrics {
    pub(super) total: Counter,
    pub(super) open: Gauge,
    ended: Family<EndLabels, Counter>,
    bytes: Family<BytesLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabels {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BytesLabels {
    from: &'static str,
}

impl TcpMetrics {
    pub fn register(&self, registry: &mut Registry) {
        for from in ["app", "target"] {
            // The series are there before the first connection ends.
            drop(self.bytes.get_or_create(&BytesLabels { from }));
        }
        registry.register("tcp_connections", "Total tcp connections", self.total.clone());
        registry.register(
            "open_tcp_connections",
            "Opened tcp connections",
            self.open.clone(),
        );
        registry.register(
            "tcp_connections_ended",
            "Ended tcp connections by result",
            self.ended.clone(),
        );
        registry.register(
            "tcp_bytes",
            "Bytes of ended tcp connections by sender",
            self.bytes.clone(),
        );
    }

    pub(super) fn count_end(&self, result: &'static str, from_app: u64, from_target: u64) {
        self.ended.get_or_create(&EndLabels { result }).inc();
        self.bytes
            .get_or_create(&BytesLabels { from: "app" })
            .inc_by(from_app);
        self.bytes
            .get_or_create(&BytesLabels { from: "target" })
            .inc_by(from_target);
    }
}
