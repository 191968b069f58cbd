//! What is served right now: for every entry of the directory a listener, the virtual IPs that
//! lead to it, and the destination behind it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

use tracing::{debug, error, info, warn};

use super::door::{Door, Farewell};
use super::gate::{Gate, Way};
use super::numbers::Numbers;
use super::plane::{Basis, Planes};
use crate::accept::Limits;
use crate::app::serving::{Route, Served};
use crate::connect::direct::OwnAddresses;
use crate::datapath::{NamespaceNumber, VirtualIps};
use crate::lifecycle::drain::Drain;
use crate::resolve::directory::{CrName, Entrance, Entry};
use crate::resolve::scope::Audience;
use crate::resolve::source::secrets::Change;

/// What all entries share.
pub(super) struct Common {
    pub(super) gate: Arc<Gate>,
    pub(super) planes: Planes,
    pub(super) limits: Arc<Limits>,
    pub(super) drain: Drain,
    pub(super) own: Arc<OwnAddresses>,
    pub(super) numbers: Numbers,
    /// Addresses of this pod, to which connections are redirected.
    pub(super) ips: Vec<IpAddr>,
}

/// Whose virtual IP it is; clones read the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Signs(Arc<RwLock<HashMap<IpAddr, CrName>>>);

/// Kept as the directory says, by its one writer.
pub(super) struct Entries {
    common: Common,
    /// The kernel's, once the programs are loaded.
    table: Option<VirtualIps>,
    open: BTreeMap<Arc<str>, Open>,
    /// Those whose listener cannot be opened, to be tried again.
    failed: BTreeMap<Arc<str>, (Entry, String)>,
    signs: Signs,
}

struct Open {
    entry: Entry,
    basis: Basis,
    served: Served,
    way: Arc<Way>,
}

impl Entries {
    pub(super) fn new(common: Common) -> Self {
        Self {
            common,
            table: None,
            open: BTreeMap::new(),
            failed: BTreeMap::new(),
            signs: Signs::default(),
        }
    }

    pub(super) fn signs(&self) -> Signs {
        self.signs.clone()
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Services whose listener cannot be opened, and why.
    pub(super) fn failed(&self) -> impl Iterator<Item = (&Entry, &str)> {
        self.failed
            .values()
            .map(|(entry, reason)| (entry, reason.as_str()))
    }

    /// Serves these Services as their entries say now; the others stay as they are.
    pub(super) fn update(&mut self, changed: impl IntoIterator<Item = (Arc<str>, Option<Entry>)>) {
        for (service, entry) in changed {
            self.failed.remove(&service);
            match entry {
                Some(entry) => self.serve(&service, entry),
                None => self.close(&service),
            }
        }
        self.tell_own_addresses();
    }

    /// Tries again what failed.
    pub(super) fn retry(&mut self) {
        if self.failed.is_empty() {
            return;
        }
        let again = std::mem::take(&mut self.failed);
        self.update(
            again
                .into_iter()
                .map(|(service, (entry, _))| (service, Some(entry))),
        );
    }

    /// Destinations have changed.
    pub(super) fn refresh(&mut self, change: &Change) {
        for open in self.open.values_mut() {
            let name = open.entry.cr.spec.destination_ref.name.as_str();
            let concerned = match change {
                Change::All => true,
                Change::Names(names) => names.contains(name),
            };
            if concerned {
                open.renew_plane(&self.common.planes);
            }
        }
    }

    /// Leads the virtual IPs here by a new table of the kernel.
    pub(super) fn announce(&mut self, table: VirtualIps) {
        self.table = Some(table);
        for open in self.open.values_mut() {
            open.announce(&self.common, self.table.as_ref());
        }
    }

    /// Forgets what was prepared for destinations that nobody has asked for since the last call.
    pub(super) fn rest(&self) {
        self.open.values().for_each(|open| open.way.endpoint.rest());
    }

    fn serve(&mut self, service: &Arc<str>, entry: Entry) {
        match self.open.get_mut(service) {
            Some(open) if open.is_at_the_same_place(&entry) => {
                self.signs.remove(&open.entry.entrance);
                self.signs.add(&entry.entrance);
                open.change(entry, &self.common, self.table.as_ref());
            }
            Some(_) => {
                self.close(service);
                self.open(service, entry);
            }
            None => self.open(service, entry),
        }
    }

    fn open(&mut self, service: &Arc<str>, entry: Entry) {
        match Open::new(&entry, &self.common) {
            Ok(mut open) => {
                debug!(%service, cr = %entry.entrance.cr, port = entry.entrance.target_port, "destination is served");
                // The listener is open, so nobody who is redirected is refused.
                open.announce(&self.common, self.table.as_ref());
                self.signs.add(&entry.entrance);
                self.open.insert(Arc::clone(service), open);
            }
            Err(reason) => {
                let port = entry.entrance.target_port;
                error!(%service, cr = %entry.entrance.cr, port, error = %reason, "destination is not served");
                self.failed
                    .insert(Arc::clone(service), (entry, reason.to_string()));
            }
        }
    }

    fn close(&mut self, service: &Arc<str>) {
        if let Some(open) = self.open.remove(service) {
            info!(%service, cr = %open.entry.entrance.cr, "destination is gone");
            self.signs.remove(&open.entry.entrance);
            open.served.close(self.table.as_ref());
        }
    }

    fn tell_own_addresses(&self) {
        let entrances = self.open.values().map(|open| &open.entry.entrance);
        self.common.own.replace(
            entrances.flat_map(|entrance| entrance.addresses.iter().copied()),
            self.open.values().map(|open| open.served.listener),
        );
    }
}

impl Open {
    fn new(entry: &Entry, common: &Common) -> io::Result<Self> {
        let entrance = &entry.entrance;
        let (basis, endpoint) = common.planes.endpoint(entry);
        let drain = common.drain.child();
        let way = Arc::new(Way {
            cr: entrance.cr.clone(),
            door: Door::new(entry.audience.clone(), drain.clone()),
            endpoint: Arc::clone(&endpoint),
        });
        let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, entrance.target_port));
        let (gate, leads) = (Arc::clone(&common.gate), Arc::clone(&way));
        let enter = move |accepted| Arc::clone(&gate).enter(accepted, Arc::clone(&leads));
        Ok(Self {
            entry: entry.clone(),
            basis,
            served: Served::open(address, endpoint, &common.limits, drain, enter)?,
            way,
        })
    }

    /// Otherwise it is another destination: nothing of the old one must reach it.
    fn is_at_the_same_place(&self, entry: &Entry) -> bool {
        let (here, there) = (&self.entry.entrance, &entry.entrance);
        here.cr == there.cr && here.target_port == there.target_port
    }

    fn change(&mut self, entry: Entry, common: &Common, table: Option<&VirtualIps>) {
        let before = std::mem::replace(&mut self.entry, entry);
        self.renew_plane(&common.planes);
        if before.audience != self.entry.audience {
            info!(cr = %self.entry.entrance.cr, audience = ?self.entry.audience, "scope has changed");
            let farewell = if self.way.endpoint.is_tcp() {
                Farewell::Cut
            } else {
                Farewell::Finish
            };
            self.way.door.open_to(self.entry.audience.clone(), farewell);
        }
        self.announce(common, table);
    }

    fn renew_plane(&mut self, planes: &Planes) {
        let basis = planes.basis(&self.entry);
        if basis != self.basis {
            self.way.endpoint.replace(planes.plane(&self.entry, &basis));
            self.basis = basis;
        }
    }

    fn announce(&mut self, common: &Common, table: Option<&VirtualIps>) {
        let Some(table) = table else { return };
        let routes = routes(&self.entry, &common.ips, &common.numbers);
        if let Err(error) = self.served.announce(routes, table) {
            let cr = &self.entry.entrance.cr;
            warn!(%cr, %error, "a virtual IP is served by the Service alone");
        }
    }
}

/// Each virtual IP leads to this pod's address of the same family.
fn routes(entry: &Entry, ips: &[IpAddr], numbers: &Numbers) -> BTreeSet<Route> {
    let entrance: &Entrance = &entry.entrance;
    let namespace = match &entry.audience {
        Audience::Cluster => NamespaceNumber::NONE,
        Audience::Namespace(namespace) => numbers.of(namespace),
    };
    let route = |address: &IpAddr| {
        let own = ips.iter().find(|own| own.is_ipv4() == address.is_ipv4())?;
        Some(Route {
            virtual_address: SocketAddr::new(*address, entrance.port),
            proxy: SocketAddr::new(*own, entrance.target_port),
            namespace,
        })
    };
    entrance.addresses.iter().filter_map(route).collect()
}

impl Signs {
    pub(super) fn cr(&self, address: IpAddr) -> Option<CrName> {
        let signs = self.0.read().unwrap_or_else(PoisonError::into_inner);
        signs.get(&address.to_canonical()).cloned()
    }

    fn add(&self, entrance: &Entrance) {
        let mut signs = self.0.write().unwrap_or_else(PoisonError::into_inner);
        signs.extend(
            entrance
                .addresses
                .iter()
                .map(|address| (*address, entrance.cr.clone())),
        );
    }

    fn remove(&self, entrance: &Entrance) {
        let mut signs = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for address in &entrance.addresses {
            signs.remove(address);
        }
    }
}

#[cfg(test)]
mod tests;
