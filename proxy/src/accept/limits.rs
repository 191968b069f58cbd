//! How many connections may be open: per source first, so that one pod cannot starve the others.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::warn;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Open connections per source address.
    pub per_source: usize,
    /// Open connections altogether; none by default.
    pub total: Option<usize>,
    /// From so many on, nothing is accepted until one ends; the kernel's backlog keeps the others.
    pub pause_at: Option<usize>,
}

impl LimitsConfig {
    /// Pauses before the process is out of descriptors, so that enough are left for everything else:
    /// name lookups, files, the admin server.
    #[must_use]
    pub fn within_descriptors(self, limit: u64) -> Self {
        let usable = limit.saturating_sub(RESERVED_DESCRIPTORS) / DESCRIPTORS_PER_CONNECTION;
        Self {
            pause_at: Some(usize::try_from(usable).unwrap_or(usize::MAX).max(1)),
            ..self
        }
    }
}

const RESERVED_DESCRIPTORS: u64 = 128;

/// The application's leg, the target's, and one that watches a side that has ended.
const DESCRIPTORS_PER_CONNECTION: u64 = 3;

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            per_source: 4096,
            total: None,
            pause_at: None,
        }
    }
}

/// A line about a lack of descriptors at most so often.
const QUIET: Duration = Duration::from_secs(10);

/// Counts the open connections of a plane, over all of its listeners.
#[derive(Debug)]
pub struct Limits {
    config: LimitsConfig,
    sources: Mutex<HashMap<IpAddr, usize>>,
    open: AtomicUsize,
    released: Notify,
    refused: Family<RefusedLabels, Counter>,
    paused: Counter,
    told: Mutex<Option<Instant>>,
}

/// How a plane stands to its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pub open: usize,
    /// The tighter one of those for all sources together.
    pub at_most: Option<usize>,
    /// Since the start.
    pub refused: u64,
    pub pauses: u64,
}

impl Usage {
    pub fn is_full(&self) -> bool {
        self.at_most.is_some_and(|at_most| self.open >= at_most)
    }
}

/// The limit that a connection would exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exceeded {
    PerSource,
    Total,
}

impl Exceeded {
    const ALL: [Self; 2] = [Self::PerSource, Self::Total];

    /// Label of metrics, field of the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PerSource => "per_source",
            Self::Total => "total",
        }
    }
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabels {
    limit: &'static str,
}

impl RefusedLabels {
    fn of(limit: Exceeded) -> Self {
        Self {
            limit: limit.as_str(),
        }
    }
}

/// One open connection.
#[derive(Debug)]
#[must_use = "dropping it ends the count of the connection"]
pub struct Permit {
    limits: Arc<Limits>,
    source: IpAddr,
}

impl Limits {
    pub fn new(config: LimitsConfig) -> Arc<Self> {
        Arc::new(Self {
            config,
            sources: Mutex::default(),
            open: AtomicUsize::new(0),
            released: Notify::new(),
            refused: Family::default(),
            paused: Counter::default(),
            told: Mutex::default(),
        })
    }

    /// Registers the counters of refused connections and of pauses.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "connections_refused",
            "Connections closed at once because of a limit",
            self.refused.clone(),
        );
        registry.register(
            "accept_pauses",
            "Pauses of accepting for lack of resources",
            self.paused.clone(),
        );
    }

    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Counts a connection, unless a limit is reached.
    pub fn admit(self: &Arc<Self>, source: IpAddr) -> Result<Permit, Exceeded> {
        self.try_admit(source).inspect_err(|limit| {
            self.refused.get_or_create(&RefusedLabels::of(*limit)).inc();
        })?;
        Ok(Permit {
            limits: Arc::clone(self),
            source,
        })
    }

    pub fn usage(&self) -> Usage {
        let LimitsConfig { total, pause_at, .. } = self.config;
        let refused = |limit| self.refused.get(&RefusedLabels::of(limit)).map_or(0, |n| n.get());
        Usage {
            open: self.open(),
            at_most: total.into_iter().chain(pause_at).min(),
            refused: Exceeded::ALL.map(refused).iter().sum(),
            pauses: self.paused.get(),
        }
    }

    /// Whether nothing may be accepted until a connection ends.
    pub(super) fn is_full(&self) -> bool {
        self.config
            .pause_at
            .is_some_and(|pause_at| self.open() >= pause_at)
    }

    /// Resolves when a connection may be accepted.
    pub(super) async fn room(&self) {
        self.count_paused();
        if self.is_to_be_told() {
            warn!(
                open = self.open(),
                "accepting pauses: there are no descriptors for more connections"
            );
        }
        loop {
            let released = self.released.notified();
            if !self.is_full() {
                return;
            }
            released.await;
        }
    }

    /// All listeners wait together, and again and again.
    fn is_to_be_told(&self) -> bool {
        let now = Instant::now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_some_and(|told| now - told < QUIET) {
            return false;
        }
        *told = Some(now);
        true
    }

    pub(super) fn count_paused(&self) {
        self.paused.inc();
    }

    fn try_admit(&self, source: IpAddr) -> Result<(), Exceeded> {
        let mut sources = self.sources();
        let of_source = sources.get(&source).copied().unwrap_or(0);
        if of_source >= self.config.per_source {
            return Err(Exceeded::PerSource);
        }
        // Only changed under the lock, so the check holds.
        if self.config.total.is_some_and(|total| self.open() >= total) {
            return Err(Exceeded::Total);
        }
        sources.insert(source, of_source + 1);
        self.open.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn release(&self, source: IpAddr) {
        let mut sources = self.sources();
        let before = self.open.fetch_sub(1, Ordering::Relaxed);
        if self.config.pause_at.is_some_and(|pause_at| before >= pause_at) {
            self.released.notify_waiters();
        }
        if let Some(of_source) = sources.get_mut(&source) {
            *of_source -= 1;
            if *of_source == 0 {
                sources.remove(&source);
            }
        }
    }

    fn sources(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limits.release(self.source);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));

    #[test]
    fn one_source_cannot_use_up_what_others_need() {
        let limits = Limits::new(LimitsConfig {
            per_source: 2,
            total: Some(3),
            pause_at: None,
        });
        let first = limits.admit(A).unwrap();
        let _second = limits.admit(A).unwrap();
        assert_eq!(limits.admit(A).unwrap_err(), Exceeded::PerSource);
        let _third = limits.admit(B).unwrap();
        assert_eq!(limits.admit(B).unwrap_err(), Exceeded::Total);
        drop(first);
        let _fourth = limits.admit(B).unwrap();
        assert_eq!(limits.open(), 3);
    }

    #[test]
    fn nothing_is_kept_of_sources_that_have_gone() {
        let limits = Limits::new(LimitsConfig::default());
        drop(limits.admit(A).unwrap());
        assert!(limits.sources().is_empty());
    }
}
