//! How many Destination resources there are, counted when somebody asks.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::Installation;

pub(super) fn register(installation: Arc<Installation>, registry: &mut Registry) {
    registry.register_collector(Box::new(Crs(installation)));
}

#[derive(Debug)]
struct Crs(Arc<Installation>);

impl Collector for Crs {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let rows = self.0.managed_rows();
        let available = rows.iter().filter(|row| row.is_available()).count();
        let mut family = encoder.encode_descriptor(
            "destination_crs",
            "Total Destination Crs",
            None,
            MetricType::Gauge,
        )?;
        // One without condition is not available yet.
        for (value, count) in [("True", available), ("False", rows.len() - available)] {
            let gauge = ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
            gauge.encode(family.encode_family(&[("Available", value)])?)?;
        }
        Ok(())
    }
}
