//! Target ports: one for each destination, for as long as its CR lives.
//!
//! The Services remember them, so a new manager adopts what it finds. In memory they survive
//! Services that somebody deletes. A port of a CR that is gone rests for a while: connections and
//! agents that are late must not end up at another destination.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use tokio::time::Instant;

use crate::cluster::watch::Key;

/// Longer than anybody should be late.
const REST: Duration = Duration::from_mins(10);

/// Where a sidecar of Istio listens, so that nobody else could in a pod that has one. Taken where
/// there is no other. See <https://istio.io/latest/docs/ops/deployment/application-requirements/>.
const ISTIO: RangeInclusive<u16> = 15_000..=15_099;

#[derive(Debug)]
pub(super) struct Ports {
    range: RangeInclusive<u16>,
    of: HashMap<Key, u16>,
    holders: HashMap<u16, Key>,
    resting: HashMap<u16, Instant>,
}

impl Ports {
    pub(super) fn new(range: RangeInclusive<u16>) -> Self {
        Self {
            range,
            of: HashMap::new(),
            holders: HashMap::new(),
            resting: HashMap::new(),
        }
    }

    /// Keeps the port that a Service has, unless it is somebody else's or the CR has one already.
    pub(super) fn adopt(&mut self, cr: &Key, port: u16) {
        if !self.holders.contains_key(&port) && !self.of.contains_key(cr) {
            self.hold(cr, port);
        }
    }

    /// The port of the CR, now and from now on; none where all are taken.
    pub(super) fn of(&mut self, cr: &Key) -> Option<u16> {
        if let Some(port) = self.of.get(cr) {
            return Some(*port);
        }
        let port = self.free(cr)?;
        self.hold(cr, port);
        Some(port)
    }

    /// Of the CRs of this name, those that are gone need none any more.
    pub(super) fn keep(&mut self, name: &str, is_there: impl Fn(&Key) -> bool) {
        let holders = self.of.keys();
        let gone: Vec<Key> = holders
            .filter(|cr| &*cr.name == name && !is_there(cr))
            .cloned()
            .collect();
        for cr in &gone {
            self.release(cr);
        }
    }

    fn release(&mut self, cr: &Key) {
        if let Some(port) = self.of.remove(cr) {
            self.holders.remove(&port);
            self.resting.insert(port, Instant::now());
        }
    }

    fn hold(&mut self, cr: &Key, port: u16) {
        self.of.insert(cr.clone(), port);
        self.holders.insert(port, cr.clone());
        self.resting.remove(&port);
    }

    /// Starts at a place that depends on the name alone, so that it is mostly the same one again.
    fn free(&mut self, cr: &Key) -> Option<u16> {
        self.resting.retain(|_, since| since.elapsed() < REST);
        let (first, last) = (u32::from(*self.range.start()), u32::from(*self.range.end()));
        let count = last - first + 1;
        let start = hash(cr) % count;
        let candidates = (0..count).map(|step| first + (start + step) % count);
        let mut free = candidates
            .filter_map(|port| u16::try_from(port).ok())
            .filter(|port| !self.holders.contains_key(port));
        let is_rested = |port: &u16| !self.resting.contains_key(port);
        let is_good = |port: &u16| !ISTIO.contains(port);
        let best = free.clone().find(|port| is_rested(port) && is_good(port));
        best.or_else(|| free.clone().find(is_good))
            .or_else(|| free.next())
    }
}

/// FNV-1a, which stays the same over versions of this program, its compiler and its libraries.
fn hash(cr: &Key) -> u32 {
    let bytes = cr.namespace.bytes().chain([b'/']).chain(cr.name.bytes());
    bytes.fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cr(name: &str) -> Key {
        Key::new("shop", name)
    }

    fn ports() -> Ports {
        Ports::new(10_000..=10_004)
    }

    #[test]
    fn a_cr_keeps_its_port() {
        let mut ports = ports();
        let port = ports.of(&cr("a")).unwrap();
        ports.of(&cr("b"));
        assert_eq!(ports.of(&cr("a")), Some(port));
    }

    #[test]
    fn the_port_depends_on_the_name_alone() {
        let wide = || Ports::new(10_000..=29_999);
        assert_eq!(wide().of(&cr("orders")), wide().of(&cr("orders")));
        assert_ne!(wide().of(&cr("orders")), wide().of(&cr("payroll")));
    }

    #[test]
    fn what_a_service_has_is_adopted_also_outside_of_the_range() {
        let mut ports = ports();
        ports.adopt(&cr("a"), 25_000);
        ports.adopt(&cr("b"), 25_000);
        ports.adopt(&cr("a"), 25_001);
        assert_eq!(ports.of(&cr("a")), Some(25_000));
        assert_ne!(ports.of(&cr("b")), Some(25_000));
    }

    #[test]
    fn when_all_are_taken_there_is_none() {
        let mut ports = ports();
        for name in ["a", "b", "c", "d", "e"] {
            assert!(ports.of(&cr(name)).is_some());
        }
        assert_eq!(ports.of(&cr("f")), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_freed_port_rests_unless_there_is_no_other() {
        let mut ports = ports();
        let port = ports.of(&cr("a")).unwrap();
        ports.release(&cr("a"));
        let others: Vec<_> = ["a", "b", "c", "d"]
            .map(|name| ports.of(&cr(name)).unwrap())
            .into();
        assert!(!others.contains(&port), "{others:?}");
        assert_eq!(ports.of(&cr("e")), Some(port));
    }

    #[tokio::test(start_paused = true)]
    async fn a_rested_port_is_taken_again() {
        let mut ports = ports();
        let port = ports.of(&cr("a")).unwrap();
        ports.release(&cr("a"));
        tokio::time::advance(REST).await;
        assert_eq!(ports.of(&cr("a")), Some(port));
    }

    #[test]
    fn the_ports_of_istio_are_for_whoever_has_them_and_else_the_last_ones() {
        let mut ports = Ports::new(14_998..=15_101);
        ports.adopt(&cr("old"), 15_006);
        assert_eq!(ports.of(&cr("old")), Some(15_006));
        let mut first: Vec<u16> = ["a", "b", "c", "d"]
            .map(|name| ports.of(&cr(name)).unwrap())
            .into();
        first.sort_unstable();
        assert_eq!(first, [14_998, 14_999, 15_100, 15_101]);
        assert!(ISTIO.contains(&ports.of(&cr("e")).unwrap()));
    }

    proptest! {
        #[test]
        fn no_two_crs_ever_have_the_same_port(steps in prop::collection::vec((0..8u8, 0..3u8, 10_000..10_010u16), 0..60)) {
            let mut ports = ports();
            for (name, step, port) in steps {
                let cr = cr(&name.to_string());
                match step {
                    0 => ports.adopt(&cr, port),
                    1 => ports.release(&cr),
                    _ => {
                        ports.of(&cr);
                    }
                }
                let mut all: Vec<_> = ports.of.values().collect();
                all.sort_unstable();
                let count = all.len();
                all.dedup();
                prop_assert_eq!(all.len(), count);
                prop_assert_eq!(ports.holders.len(), count);
            }
        }
    }
}
