//! Cgroups that were looked for and are no pod's.

use std::collections::HashSet;

/// Ids are not used again, so who is a stranger remains one.
#[derive(Debug, Default)]
pub(super) struct Strangers(HashSet<u64>);

impl Strangers {
    /// More than a node has processes with cgroups of their own outside of pods.
    const ENOUGH: usize = 4096;

    pub(super) fn contains(&self, cgroup: u64) -> bool {
        self.0.contains(&cgroup)
    }

    pub(super) fn insert(&mut self, cgroup: u64) {
        if self.0.len() >= Self::ENOUGH {
            self.0.clear();
        }
        self.0.insert(cgroup);
    }
}
