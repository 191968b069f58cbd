//! What is served, posted for those who only look. One writes: the entries.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::gate::Way;
use crate::datapath::{NamespaceNumber, VirtualIps};
use crate::resolve::directory::{CrName, Entrance};

/// Clones show the same.
#[derive(Clone, Default)]
pub(super) struct Board(Arc<RwLock<Posted>>);

#[derive(Default)]
struct Posted {
    /// Whose virtual IP it is.
    crs: HashMap<IpAddr, CrName>,
    /// By the names of Services; or why its listener is not open.
    ways: HashMap<Arc<str>, Result<Arc<Way>, String>>,
    table: Option<VirtualIps>,
}

impl Board {
    pub(super) fn cr(&self, address: IpAddr) -> Option<CrName> {
        self.read().crs.get(&address.to_canonical()).cloned()
    }

    pub(super) fn way(&self, service: &str) -> Option<Result<Arc<Way>, String>> {
        self.read().ways.get(service).cloned()
    }

    /// Where the kernel leads connections to this address, and for whom. `None` without a hook.
    #[expect(clippy::option_option, reason = "no hook is something else than no entry")]
    pub(super) fn route(&self, address: SocketAddr) -> Option<Option<(SocketAddr, NamespaceNumber)>> {
        let table = self.read().table.clone()?;
        Some(table.target(address).ok().flatten())
    }

    pub(super) fn open(&self, entrance: &Entrance, way: Arc<Way>) {
        let mut posted = self.write();
        posted.ways.insert(Arc::clone(&entrance.service), Ok(way));
        let signs = entrance
            .addresses
            .iter()
            .map(|address| (*address, entrance.cr.clone()));
        posted.crs.extend(signs);
    }

    pub(super) fn failed(&self, entrance: &Entrance, reason: String) {
        self.write()
            .ways
            .insert(Arc::clone(&entrance.service), Err(reason));
    }

    pub(super) fn close(&self, entrance: &Entrance) {
        let mut posted = self.write();
        posted.ways.remove(&entrance.service);
        for address in &entrance.addresses {
            // Another one may have it by now.
            if posted.crs.get(address) == Some(&entrance.cr) {
                posted.crs.remove(address);
            }
        }
    }

    pub(super) fn hooked(&self, table: VirtualIps) {
        self.write().table = Some(table);
    }

    fn read(&self) -> RwLockReadGuard<'_, Posted> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Posted> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
