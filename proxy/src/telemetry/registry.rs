//! The metrics of the process. Each stage registers its own, below a scope.

use std::borrow::Cow;
use std::fmt;

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::registry::Registry;

/// The content type that goes with [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything that can be scraped. Filled while the process is put together, read-only afterwards.
#[derive(Debug)]
pub struct Metrics(Registry);

impl Metrics {
    pub fn new() -> Self {
        Self(Registry::with_prefix("tp"))
    }

    /// Where a component registers; its metrics are labelled with its name.
    pub fn scope(&mut self, component: &'static str) -> &mut Registry {
        let labels = [("otel_scope_name", component), ("otel_scope_version", "")]
            .map(|(k, v)| (Cow::from(k), Cow::from(v)));
        self.0.sub_registry_with_labels(labels.into_iter())
    }

    /// For metrics without a scope.
    pub fn root(&mut self) -> &mut Registry {
        &mut self.0
    }

    /// The text format of `OpenMetrics`.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::with_capacity(16 * 1024);
        encode_registry(&mut text, &self.0)?;
        encode_eof(&mut text)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn metrics_carry_the_scope_of_their_component() {
        let mut metrics = Metrics::new();
        metrics.scope("sap-transp-proxy-tcp").register(
            "tcp_connections",
            "Total tcp connections",
            Counter::<u64>::default(),
        );
        let text = metrics.encode().unwrap();
        assert!(
            text.contains(
                r#"tp_tcp_connections_total{otel_scope_name="sap-transp-proxy-tcp",otel_scope_version=""} 0"#
            ),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
