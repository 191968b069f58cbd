//! What is served right now: for every entry of the directory a listener, the virtual IPs that
//! lead to it, and the destination behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tracing::{debug, error, info, warn};

use super::board::Board;
use super::door::{Door, Farewell};
use super::gate::{Gate, Way};
use super::numbers::Numbers;
use super::plane::{Basis, Planes};
use crate::accept::Limits;
use crate::app::serving::{Route, Served};
use crate::connect::direct::OwnAddresses;
use crate::datapath::{NamespaceNumber, VirtualIps};
use crate::lifecycle::drain::Drain;
use crate::resolve::directory::{Entrance, Entry};
use crate::resolve::scope::Audience;
use crate::resolve::source::secrets::Change;

use crate::lifecycle::supervisor::Supervisor;
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
    pub(super) supervisor: Supervisor,
}

/// Kept as the directory says, by its one writer.
pub(super) struct Entries {
    common: Common,
    /// The kernel's, once the programs are loaded.
    table: Option<VirtualIps>,
    open: BTreeMap<Arc<str>, Open>,
    /// Those whose listener cannot be opened, to be tried again.
    failed: BTreeMap<Arc<str>, Entry>,
    board: Board,
}

struct Open {
    entry: Entry,
    basis: Basis,
    served: Served,
    way: Arc<Way>,
}

impl Entries {
    pub(super) fn new(common: Common, board: Board) -> Self {
        Self {
            common,
            table: None,
            open: BTreeMap::new(),
            failed: BTreeMap::new(),
            board,
        }
    }

    pub(super) fn board(&self) -> Board {
        self.board.clone()
    }

    /// Whether there are listeners that could not be opened.
    pub(super) fn has_failed(&self) -> bool {
        !self.failed.is_empty()
    }

    /// Serves these Services as their entries say now; the others stay as they are.
    pub(super) fn update(&mut self, changed: impl IntoIterator<Item = (Arc<str>, Option<Entry>)>) {
        for (service, entry) in changed {
            if let Some(failed) = self.failed.remove(&service) {
                self.board.close(&failed.entrance);
            }
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
        self.update(again.into_iter().map(|(service, entry)| (service, Some(entry))));
    }

    /// Destinations have changed.
    pub(super) fn refresh(&mut self, change: &Change) {
        if let Change::Names(names) = change {
            for name in names {
                self.forget_if_gone(name);
            }
        }
        for open in self.open.values_mut() {
            let name = open.entry.cr.destination();
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
        self.board.hooked(table.clone());
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
                self.board.close(&open.entry.entrance);
                self.board.open(&entry.entrance, Arc::clone(&open.way));
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
                self.board.open(&entry.entrance, Arc::clone(&open.way));
                self.open.insert(Arc::clone(service), open);
            }
            Err(reason) => {
                let port = entry.entrance.target_port;
                error!(%service, cr = %entry.entrance.cr, port, error = %reason, "destination is not served");
                self.board.failed(&entry.entrance, reason.to_string());
                self.failed.insert(Arc::clone(service), entry);
            }
        }
    }

    fn close(&mut self, service: &Arc<str>) {
        if let Some(open) = self.open.remove(service) {
            info!(%service, cr = %open.entry.entrance.cr, "destination is gone");
            self.board.close(&open.entry.entrance);
            self.common.gate.refusals.forget(&open.entry.entrance.cr);
            open.served.close(self.table.as_ref());
            self.forget_if_gone(open.entry.cr.destination());
        }
    }

    /// Ends the series of a destination that neither exists nor is asked for by a CR.
    fn forget_if_gone(&self, destination: &str) {
        let planes = &self.common.planes;
        let exists = planes.destinations.secret(destination).is_some();
        let is_asked_for = || {
            self.open
                .values()
                .any(|open| open.entry.cr.destination() == destination)
        };
        if !exists && !is_asked_for() {
            planes.parts.http.metrics.forget(destination);
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
        let door = Door::new(entry.audience.clone(), drain.clone());
        let way = Arc::new(Way::new(entrance.cr.clone(), door, Arc::clone(&endpoint)));
        let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, entrance.target_port));
        let (gate, leads) = (Arc::clone(&common.gate), Arc::clone(&way));
        let enter = move |accepted| Arc::clone(&gate).enter(accepted, Arc::clone(&leads));
        Ok(Self {
            entry: entry.clone(),
            basis,
            served: Served::open(
                address,
                endpoint,
                &common.limits,
                drain,
                &common.supervisor,
                enter,
            )?,
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
            self.way.door.open_to(&self.entry.audience, farewell);
        }
        self.announce(common, table);
    }

    fn renew_plane(&mut self, planes: &Planes) {
        let basis = planes.basis(&self.entry);
        if basis != self.basis {
            let endpoint = &self.way.endpoint;
            endpoint.replace(planes.plane(&self.entry, &basis, endpoint.parts()));
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

#[cfg(test)]
mod tests;
