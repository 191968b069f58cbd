//! Medians, ratios, the table and the JSON file.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;

use super::load::Sample;
use super::proxies::{BARE, DIRECT, OURS, Proxy};
use crate::workspace;

/// CPU time per request against the best peer, and against Envoy.
const GOAL_BEST_PEER: f64 = 1.25;
const GOAL_ENVOY: f64 = 0.5;

#[derive(Serialize, Clone)]
pub(super) struct Round {
    cpu_microseconds_per_request: f64,
    requests_per_second: f64,
    p50_microseconds: f64,
    p99_microseconds: f64,
    resident_kib: u64,
}

#[derive(Serialize)]
struct Entry {
    version: String,
    median: Option<Round>,
    rounds: Vec<Round>,
}

#[derive(Serialize)]
pub(super) struct Report {
    machine: Machine,
    connections: u32,
    seconds: u32,
    workers: u32,
    proxies: BTreeMap<&'static str, Entry>,
    /// CPU time per request, ours divided by the peer's.
    cpu_ratio: BTreeMap<&'static str, f64>,
}

#[derive(Serialize)]
struct Machine {
    kernel: String,
    processor: String,
    cores: usize,
}

impl Round {
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of one measurement fit into 52 bits"
    )]
    pub(super) fn new(sample: &Sample, cpu_seconds: f64, resident_kib: u64) -> Self {
        Self {
            cpu_microseconds_per_request: cpu_seconds * 1e6 / sample.requests as f64,
            requests_per_second: sample.requests as f64 * 1e6 / sample.microseconds as f64,
            p50_microseconds: sample.p50,
            p99_microseconds: sample.p99,
            resident_kib,
        }
    }
}

impl Report {
    pub(super) fn new(connections: u32, seconds: u32, workers: u32) -> Self {
        let proxies = BTreeMap::new();
        Self {
            machine: Machine::this(),
            connections,
            seconds,
            workers,
            proxies,
            cpu_ratio: BTreeMap::new(),
        }
    }

    pub(super) fn add(&mut self, proxy: &Proxy, round: Round) {
        self.add_round(proxy.name, &proxy.version, round);
    }

    fn add_round(&mut self, name: &'static str, version: &str, round: Round) {
        let fresh = || Entry {
            version: version.to_owned(),
            median: None,
            rounds: Vec::new(),
        };
        let entry = self.proxies.entry(name).or_insert_with(fresh);
        entry.rounds.push(round);
        entry.median = Some(median(&entry.rounds));
        self.cpu_ratio = self.ratios();
    }

    fn cpu(&self, name: &str) -> Option<f64> {
        Some(
            self.proxies
                .get(name)?
                .median
                .as_ref()?
                .cpu_microseconds_per_request,
        )
    }

    /// To every other proxy and to the bare forwarder.
    fn ratios(&self) -> BTreeMap<&'static str, f64> {
        let Some(ours) = self.cpu(OURS) else {
            return BTreeMap::new();
        };
        let peers = self
            .proxies
            .keys()
            .copied()
            .filter(|name| *name != OURS && *name != DIRECT);
        peers
            .filter_map(|name| Some((name, ours / self.cpu(name)?)))
            .collect()
    }

    /// Against the peer that needs least: the largest ratio.
    fn against_best(&self) -> Option<f64> {
        let peers = self.cpu_ratio.iter().filter(|(name, _)| **name != BARE);
        peers.map(|(_, ratio)| *ratio).reduce(f64::max)
    }

    pub(super) fn goals_met(&self) -> bool {
        let best = self.against_best().is_some_and(|ratio| ratio <= GOAL_BEST_PEER);
        best && self
            .cpu_ratio
            .get("envoy")
            .is_none_or(|ratio| *ratio <= GOAL_ENVOY)
    }

    pub(super) fn table(&self) -> String {
        let mut text = String::from(
            "\n                     CPU us/request  ours/its  requests/s   p50 us   p99 us  memory MiB\n",
        );
        for (name, entry) in &self.proxies {
            let Some(median) = &entry.median else { continue };
            let ratio = self
                .cpu_ratio
                .get(name)
                .map_or_else(String::new, |ratio| format!("{ratio:.2}"));
            let _ = writeln!(
                text,
                "{name:20} {:>14.1}  {ratio:>8}  {:>10.0} {:>8.0} {:>8.0}  {:>10}",
                median.cpu_microseconds_per_request,
                median.requests_per_second,
                median.p50_microseconds,
                median.p99_microseconds,
                median.resident_kib / 1024,
            );
        }
        text + &self.verdict()
    }

    fn verdict(&self) -> String {
        let line = |what: &str, ratio: Option<f64>, goal: f64| match ratio {
            Some(ratio) if ratio <= goal => format!("goal met:    {ratio:.2} times {what}, at most {goal}\n"),
            Some(ratio) => format!("goal missed: {ratio:.2} times {what}, at most {goal}\n"),
            None => String::new(),
        };
        line("the best peer's CPU time", self.against_best(), GOAL_BEST_PEER)
            + &line(
                "Envoy's CPU time",
                self.cpu_ratio.get("envoy").copied(),
                GOAL_ENVOY,
            )
    }

    pub(super) fn save(&self, name: &str) -> Result<PathBuf> {
        let folder = workspace::target().join("bench");
        fs::create_dir_all(&folder).with_context(|| format!("{} can be made", folder.display()))?;
        let file = folder.join(format!("{name}.json"));
        let text = serde_json::to_string_pretty(self).context("the report is JSON")?;
        fs::write(&file, text + "\n").with_context(|| format!("{} can be written", file.display()))?;
        Ok(file)
    }
}

impl Machine {
    fn this() -> Self {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = processors.lines().find(|line| line.starts_with("model name"));
        Self {
            kernel: release.trim().to_owned(),
            processor: model
                .and_then(|line| line.split(": ").nth(1))
                .unwrap_or("unknown")
                .to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

fn median(rounds: &[Round]) -> Round {
    let of = |value: fn(&Round) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        }
    };
    let mut resident: Vec<u64> = rounds.iter().map(|round| round.resident_kib).collect();
    resident.sort_unstable();
    Round {
        cpu_microseconds_per_request: of(|round| round.cpu_microseconds_per_request),
        requests_per_second: of(|round| round.requests_per_second),
        p50_microseconds: of(|round| round.p50_microseconds),
        p99_microseconds: of(|round| round.p99_microseconds),
        resident_kib: resident[resident.len() / 2],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(cpu: f64) -> Round {
        Round {
            cpu_microseconds_per_request: cpu,
            requests_per_second: 1000.0,
            p50_microseconds: 100.0,
            p99_microseconds: 900.0,
            resident_kib: 10_240,
        }
    }

    fn report(values: &[(&'static str, &[f64])]) -> Report {
        let mut report = Report::new(32, 1, 2);
        for (name, rounds) in values {
            rounds
                .iter()
                .for_each(|cpu| report.add_round(name, "1", round(*cpu)));
        }
        report
    }

    #[test]
    fn one_bad_round_does_not_move_the_median() {
        assert_eq!(report(&[("nginx", &[14.0, 13.0, 99.0])]).cpu("nginx"), Some(14.0));
        assert_eq!(report(&[("nginx", &[14.0, 12.0])]).cpu("nginx"), Some(13.0));
    }

    #[test]
    fn the_best_peer_is_the_one_that_needs_least() {
        let report = report(&[
            (OURS, &[15.0]),
            ("nginx", &[12.0]),
            ("envoy", &[30.0]),
            (DIRECT, &[0.1]),
            (BARE, &[9.0]),
        ]);
        assert_eq!(report.against_best(), Some(1.25));
        assert!(report.goals_met());
        assert!(
            report
                .table()
                .contains("goal met:    1.25 times the best peer's CPU time")
        );
    }

    #[test]
    fn more_than_half_of_envoy_misses_the_goal() {
        assert!(!report(&[(OURS, &[16.0]), ("nginx", &[14.0]), ("envoy", &[30.0])]).goals_met());
    }

    #[test]
    fn without_peers_no_goal_is_met() {
        assert!(!report(&[(OURS, &[1.0])]).goals_met());
    }
}
