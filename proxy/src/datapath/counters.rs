//! What the programs counted.

use std::fmt;
use std::sync::Arc;

use aya::maps::{MapData, MapError, PerCpuArray};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Registry;
use proxy_common::Counter;

#[derive(Clone)]
pub struct Counters(Arc<PerCpuArray<MapData, u64>>);

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.read().fmt(f)
    }
}

/// Totals since the programs were loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Connect attempts that reached the hook, ours or not.
    pub seen: u64,
    pub redirected: u64,
    /// Attempts of the proxy itself at a virtual IP.
    pub exempt: u64,
    /// A port of a virtual IP that no destination serves.
    pub refused_port: u64,
    /// UDP to a virtual IP.
    pub refused_udp: u64,
    /// A destination for another namespace than the caller's.
    pub refused_scope: u64,
    /// The kernel had no memory to remember the connection.
    pub refused_memory: u64,
    /// Refusals that [`Refusals`](super::Refusals) does not tell of, because its buffer was full.
    pub reports_lost: u64,
    pub origins_recorded: u64,
    /// No memory, or too many handshakes at once.
    pub origins_lost: u64,
}

impl Counters {
    pub(super) fn new(map: PerCpuArray<MapData, u64>) -> Self {
        Self(Arc::new(map))
    }

    pub fn read(&self) -> Result<Snapshot, MapError> {
        Ok(Snapshot {
            seen: self.total(Counter::Seen)?,
            redirected: self.total(Counter::Redirected)?,
            exempt: self.total(Counter::Exempt)?,
            refused_port: self.total(Counter::RefusedPort)?,
            refused_udp: self.total(Counter::RefusedUdp)?,
            refused_scope: self.total(Counter::RefusedScope)?,
            refused_memory: self.total(Counter::RefusedMemory)?,
            reports_lost: self.total(Counter::ReportLost)?,
            origins_recorded: self.total(Counter::OriginRecorded)?,
            origins_lost: self.total(Counter::OriginLost)?,
        })
    }

    /// Shows the totals as metrics, read from the kernel at each scrape.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.clone()));
    }

    fn total(&self, counter: Counter) -> Result<u64, MapError> {
        Ok(self.of_family(counter, true)? + self.of_family(counter, false)?)
    }

    fn of_family(&self, counter: Counter, is_v4: bool) -> Result<u64, MapError> {
        Ok(self.0.get(&counter.slot(is_v4), 0)?.iter().sum())
    }

    /// None where the kernel does not tell.
    fn families(&self, counter: Counter) -> Option<[(&'static str, u64); 2]> {
        let (v4, v6) = (self.of_family(counter, true), self.of_family(counter, false));
        Some([("ipv4", v4.ok()?), ("ipv6", v6.ok()?)])
    }
}

impl Collector for Counters {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Ok(totals) = self.read() else { return Ok(()) };
        let plain = [
            (
                "hook_connects_seen",
                "Connect attempts that reached the hook",
                totals.seen,
            ),
            (
                "hook_reports_lost",
                "Refused connect attempts of which no pod is known, because there were too many at once",
                totals.reports_lost,
            ),
            (
                "hook_origins_lost",
                "Redirected connections of which the kernel could not record who opened them",
                totals.origins_lost,
            ),
        ];
        for (name, help, value) in plain {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        let help = "Connect attempts redirected to the proxy";
        let mut redirects = encoder.encode_descriptor("ebpf_redirects", help, None, MetricType::Counter)?;
        for (family, value) in self.families(Counter::Redirected).into_iter().flatten() {
            ConstCounter::new(value).encode(redirects.encode_family(&[("family", family)])?)?;
        }
        let help = "Connect attempts at a virtual IP that were refused";
        let mut denied = encoder.encode_descriptor("ebpf_denied", help, None, MetricType::Counter)?;
        for (reason, counter) in [
            ("port", Counter::RefusedPort),
            ("udp", Counter::RefusedUdp),
            ("scope", Counter::RefusedScope),
            ("memory", Counter::RefusedMemory),
        ] {
            for (family, value) in self.families(counter).into_iter().flatten() {
                let labels = [("family", family), ("reason", reason)];
                ConstCounter::new(value).encode(denied.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
