//! The metrics of the process. Each stage registers its own, below a scope.

mod exposition;
#[cfg(any(test, feature = "testing"))]
pub mod strict;

pub use exposition::Exposition;

use std::borrow::Cow;
use std::fmt;

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// Scopes that the dashboards of users know.
pub mod scopes {
    pub const HTTP: &str = "sap-transp-proxy-conn-handler";
    pub const TCP: &str = "sap-transp-proxy-tcp";
    pub const HEALTHCHECK: &str = "sap-transp-proxy-healthcheck";
    pub const SYSTEM: &str = "system-metrics";
}

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

    /// What a process tells of itself: its version, and how much it takes.
    pub fn register_process(&mut self) {
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        self.root()
            .register("build", "Version of this program", Info::new(version));
        super::process::register(self.scope(scopes::SYSTEM));
    }

    pub fn encode(&self, exposition: Exposition) -> Result<String, fmt::Error> {
        let mut text = String::with_capacity(16 * 1024);
        encode_registry(&mut text, &self.0)?;
        encode_eof(&mut text)?;
        Ok(exposition.rewrite(&text))
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
    use prometheus_client::metrics::histogram::Histogram;

    use super::*;

    fn metrics() -> Metrics {
        let mut metrics = Metrics::new();
        let scope = metrics.scope(scopes::TCP);
        scope.register(
            "tcp_connections",
            "Total tcp connections",
            Counter::<u64>::default(),
        );
        let seconds = Histogram::new([0.1, 1.0]);
        seconds.observe(0.5);
        metrics
            .root()
            .register("request_duration_seconds", "Time \"to\" the answer", seconds);
        metrics.register_process();
        metrics
    }

    #[test]
    fn metrics_carry_the_scope_of_their_component() {
        let text = metrics().encode(Exposition::OpenMetrics).unwrap();
        assert!(
            text.contains(
                r#"tp_tcp_connections_total{otel_scope_name="sap-transp-proxy-tcp",otel_scope_version=""} 0"#
            ),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn a_strict_reader_gets_the_same_out_of_both_formats() {
        let metrics = metrics();
        let read = |exposition| strict::parse(&metrics.encode(exposition).unwrap(), exposition).unwrap();
        for families in [read(Exposition::OpenMetrics), read(Exposition::Prometheus)] {
            let total = families.get("tp_tcp_connections").expect("the family");
            assert_eq!(
                (total.kind.as_str(), total.help.as_str()),
                ("counter", "Total tcp connections")
            );
            assert!(total.samples.values().eq(&[0.0]), "{total:?}");
            let build = format!("tp_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
            assert!(families["tp_build"].samples.contains_key(&build), "{families:?}");
            let seconds = &families["tp_request_duration_seconds"].samples;
            assert_eq!(
                seconds["tp_request_duration_seconds_bucket{le=\"1.0\"}"].to_string(),
                "1"
            );
        }
    }
}
