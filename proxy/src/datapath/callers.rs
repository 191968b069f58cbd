//! Which namespace the pod of a cgroup is in, for the hook to compare.

use std::collections::HashMap as StdHashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aya::maps::{HashMap, MapData, MapError};
use proxy_common::NamespaceNumber;

#[derive(Debug, thiserror::Error)]
#[error("the table of callers in the kernel cannot be changed for the cgroup {cgroup}")]
pub struct CallersError {
    pub cgroup: u64,
    #[source]
    pub source: MapError,
}

/// Writes the kernel's table; clones write the same one.
///
/// Callers that are not in it are redirected wherever they go: whoever accepts their
/// connections decides.
#[derive(Debug, Clone)]
pub struct Callers(Arc<Mutex<MapOfCallers>>);

#[derive(Debug)]
struct MapOfCallers {
    map: HashMap<MapData, u64, NamespaceNumber>,
    /// What is in the map, so that nothing is written twice.
    written: StdHashMap<u64, NamespaceNumber>,
}

impl Callers {
    pub(super) fn new(map: HashMap<MapData, u64, NamespaceNumber>) -> Self {
        Self(Arc::new(Mutex::new(MapOfCallers {
            map,
            written: StdHashMap::new(),
        })))
    }

    /// Tasks in this cgroup and below are of `namespace` from now on, unless one above it says
    /// otherwise.
    pub fn set(&self, cgroup: u64, namespace: NamespaceNumber) -> Result<(), CallersError> {
        self.lock()
            .set(cgroup, namespace)
            .map_err(|source| CallersError { cgroup, source })
    }

    /// Tasks in this cgroup are unknown from now on. Does nothing if they are.
    pub fn remove(&self, cgroup: u64) -> Result<(), CallersError> {
        self.lock()
            .remove(cgroup)
            .map_err(|source| CallersError { cgroup, source })
    }

    /// Removes all for which `keep` says no; returns how many.
    pub fn retain(&self, mut keep: impl FnMut(u64, NamespaceNumber) -> bool) -> Result<usize, CallersError> {
        let mut callers = self.lock();
        let gone: Vec<u64> = callers
            .written
            .iter()
            .filter(|&(&cgroup, &namespace)| !keep(cgroup, namespace))
            .map(|(&cgroup, _)| cgroup)
            .collect();
        for &cgroup in &gone {
            callers
                .remove(cgroup)
                .map_err(|source| CallersError { cgroup, source })?;
        }
        Ok(gone.len())
    }

    pub fn get(&self, cgroup: u64) -> Option<NamespaceNumber> {
        self.lock().written.get(&cgroup).copied()
    }

    pub fn len(&self) -> usize {
        self.lock().written.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, MapOfCallers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MapOfCallers {
    fn set(&mut self, cgroup: u64, namespace: NamespaceNumber) -> Result<(), MapError> {
        if self.written.get(&cgroup) == Some(&namespace) {
            return Ok(());
        }
        self.map.insert(cgroup, namespace, 0)?;
        self.written.insert(cgroup, namespace);
        Ok(())
    }

    fn remove(&mut self, cgroup: u64) -> Result<(), MapError> {
        if !self.written.contains_key(&cgroup) {
            return Ok(());
        }
        self.map.remove(&cgroup)?;
        self.written.remove(&cgroup);
        Ok(())
    }
}
