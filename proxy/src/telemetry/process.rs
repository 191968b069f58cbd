//! CPU and memory of this process, read when somebody asks.

use std::fs;
use std::sync::Mutex;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

/// Linux reports times in /proc in units of 1/100 s on all supported architectures (`USER_HZ`, see proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;

/// Registers `cpu_percent` and `memory_bytes`.
pub fn register(registry: &mut Registry) {
    registry.register_collector(Box::new(Process {
        last: Mutex::new((Instant::now(), cpu_time().unwrap_or_default())),
    }));
}

#[derive(Debug)]
struct Process {
    /// When the CPU time was read last, and what it was.
    last: Mutex<(Instant, Duration)>,
}

impl Process {
    /// CPU time since the previous reading, in percent of one core.
    fn cpu_percent(&self) -> f64 {
        let now = (Instant::now(), cpu_time().unwrap_or_default());
        let mut last = self
            .last
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let (before, used_before) = std::mem::replace(&mut *last, now);
        let wall = now.0.duration_since(before).as_secs_f64();
        if wall > 0.0 {
            now.1.saturating_sub(used_before).as_secs_f64() / wall * 100.0
        } else {
            0.0
        }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let cpu = ConstGauge::new(self.cpu_percent());
        cpu.encode(encoder.encode_descriptor(
            "cpu_percent",
            "Process CPU usage percentage",
            None,
            prometheus_client::metrics::MetricType::Gauge,
        )?)?;
        let memory = ConstGauge::new(resident_bytes().unwrap_or_default());
        memory.encode(encoder.encode_descriptor(
            "memory_bytes",
            "Process memory usage",
            None,
            prometheus_client::metrics::MetricType::Gauge,
        )?)
    }
}

/// User and system time, fields 14 and 15 of /proc/self/stat.
fn cpu_time() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(Duration::from_secs_f64((user + system) / TICKS_PER_SECOND))
}

fn resident_bytes() -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_time_and_memory() {
        assert!(cpu_time().is_some());
        assert!(resident_bytes().is_some_and(|bytes| bytes > 100_000));
    }

    #[test]
    fn both_are_scraped_with_their_scope() {
        let mut metrics = crate::telemetry::registry::Metrics::new();
        register(metrics.scope("system-metrics"));
        let text = metrics
            .encode(crate::telemetry::registry::Exposition::OpenMetrics)
            .unwrap();
        for name in ["tp_cpu_percent", "tp_memory_bytes"] {
            assert!(
                text.contains(&format!("{name}{{otel_scope_name=\"system-metrics\"")),
                "{text}"
            );
        }
    }
}
