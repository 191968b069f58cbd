//! What is served right now: for every entry of the directory a listener, the virtual IPs that
//! lead to it, and the destination behind it.

mod claims;

use std::collections::btree_map::Entry as MapEntry;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tracing::{debug, error, info, warn};

use self::claims::Claims;
use super::board::Board;
use super::door::Door;
use super::gate::{Gate, Turnstile, Way};
use super::limits::PlaneLimits;
use super::numbers::Numbers;
use super::plane::{Basis, Planes};
use crate::app::serving::{Route, Served};
use crate::connect::direct::OwnAddresses;
use crate::datapath::{NamespaceNumber, VirtualIpError, VirtualIps};
use crate::lifecycle::drain::Drain;
use crate::lifecycle::supervisor::Supervisor;
use crate::resolve::directory::{CrName, Entrance, Entry, Standing};
use crate::resolve::scope::Audience;
use crate::resolve::source::secrets::Change;

/// What all entries share.
pub(super) struct Common {
    pub(super) gate: Arc<Gate>,
    pub(super) planes: Planes,
    pub(super) limits: Arc<PlaneLimits>,
    pub(super) drain: Drain,
    pub(super) supervisor: Supervisor,
    pub(super) own: Arc<OwnAddresses>,
    pub(super) numbers: Numbers,
    /// Addresses of this pod, to which connections are redirected.
    pub(super) ips: Vec<IpAddr>,
}

/// Kept as the directory says, by its one writer.
pub(super) struct Entries {
    common: Common,
    /// The kernel's, once the programs are loaded.
    table: Option<VirtualIps>,
    open: BTreeMap<Arc<str>, Open>,
    /// Those that are not served any more, or not there, while connections are open. What these may
    /// do is up to their CRs.
    retired: Vec<Open>,
    /// Those whose listener cannot be opened, to be tried again.
    failed: BTreeMap<Arc<str>, Entry>,
    /// Those that are open, but not by all of their virtual IPs; to be tried again.
    incomplete: BTreeSet<Arc<str>>,
    claims: Claims,
    /// Those whose target port is another one's.
    outdone: BTreeMap<Arc<str>, Entry>,
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
            retired: Vec::new(),
            failed: BTreeMap::new(),
            incomplete: BTreeSet::new(),
            claims: Claims::default(),
            outdone: BTreeMap::new(),
            board,
        }
    }

    pub(super) fn board(&self) -> Board {
        self.board.clone()
    }

    /// Whether something could not be done, and may be possible later.
    pub(super) fn has_failed(&self) -> bool {
        !self.failed.is_empty() || !self.incomplete.is_empty()
    }

    /// Serves these Services as their entries say now; the others stay as they are. What ends is
    /// ended first: ports and addresses may have changed hands.
    ///
    /// `standing` tells of every CR how it is now.
    pub(super) fn update(
        &mut self,
        changed: impl IntoIterator<Item = (Arc<str>, Option<Entry>)>,
        standing: impl Fn(&CrName) -> Standing,
    ) {
        let changed: BTreeMap<_, _> = changed.into_iter().collect();
        if !changed.is_empty() {
            self.serve_as(changed);
        }
        self.review_retired(standing);
    }

    fn serve_as(&mut self, changed: BTreeMap<Arc<str>, Option<Entry>>) {
        let concerned = self.with_rivals(changed);
        for (service, entry) in &concerned {
            self.make_room(service, entry.as_ref());
        }
        for (service, entry) in concerned {
            if let Some(entry) = entry {
                self.serve(&service, entry);
            }
        }
        self.tell_own_addresses();
    }

    /// Tries again what failed.
    pub(super) fn retry(&mut self) {
        for (service, entry) in std::mem::take(&mut self.failed) {
            self.serve(&service, entry);
        }
        for service in self.incomplete.clone() {
            self.lead(&service);
        }
        self.tell_own_addresses();
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
        let all: Vec<_> = self.open.keys().cloned().collect();
        for service in &all {
            self.lead(service);
        }
    }

    /// Forgets what was prepared for destinations that nobody has asked for since the last call.
    pub(super) fn rest(&mut self) {
        self.open.values().for_each(|open| open.way.endpoint.rest());
        self.forget_ended();
    }

    /// Only its CR, or what that says of who may connect, ends what is open.
    fn review_retired(&mut self, standing: impl Fn(&CrName) -> Standing) {
        for open in &mut self.retired {
            match standing(&open.entry.entrance.cr) {
                Standing::Gone => open.served.revoke(),
                Standing::NotUnderstood => {}
                Standing::For(audience) => open.keep_to(audience, &self.common),
            }
        }
        self.forget_ended();
    }

    fn forget_ended(&mut self) {
        let ended: Vec<Open> = self
            .retired
            .extract_if(.., |open| open.served.is_over())
            .collect();
        for open in ended {
            self.forget_if_gone(open.entry.cr.destination());
        }
    }

    /// Whoever has a target port in common with them is concerned as well.
    fn with_rivals(
        &mut self,
        mut changed: BTreeMap<Arc<str>, Option<Entry>>,
    ) -> BTreeMap<Arc<str>, Option<Entry>> {
        let mut rivals = BTreeSet::new();
        for (service, entry) in &changed {
            let entrance = entry.as_ref().map(|entry| &*entry.entrance);
            rivals.extend(self.claims.set(service, entrance));
        }
        for rival in rivals {
            if let MapEntry::Vacant(place) = changed.entry(rival) {
                let entry = self.entry(place.key()).cloned();
                place.insert(entry);
            }
        }
        changed
    }

    fn entry(&self, service: &str) -> Option<&Entry> {
        let open = self.open.get(service).map(|open| &open.entry);
        open.or_else(|| self.failed.get(service))
            .or_else(|| self.outdone.get(service))
    }

    /// Ends what does not go on as it is.
    fn make_room(&mut self, service: &Arc<str>, entry: Option<&Entry>) {
        let waiting = [self.failed.remove(service), self.outdone.remove(service)];
        for entry in waiting.iter().flatten() {
            self.board.close(&entry.entrance);
        }
        let stays = entry.is_some_and(|entry| {
            self.holds_port(service, entry)
                && self
                    .open
                    .get(service)
                    .is_some_and(|open| open.is_at_the_same_place(entry))
        });
        if !stays {
            self.close(service);
        }
    }

    fn holds_port(&self, service: &Arc<str>, entry: &Entry) -> bool {
        self.claims.holder(entry.entrance.target_port) == Some(service)
    }

    fn serve(&mut self, service: &Arc<str>, entry: Entry) {
        if !self.holds_port(service, &entry) {
            return self.outdo(service, entry);
        }
        let contested = self.claims.is_contested(entry.entrance.target_port);
        match self.open.get_mut(service) {
            Some(open) => {
                self.board.close(&open.entry.entrance);
                self.board.open(&entry.entrance, Arc::clone(&open.way));
                open.change(entry, &self.common);
            }
            None => self.open(service, entry),
        }
        if let Some(open) = self.open.get(service) {
            open.way
                .contest(contested.then(|| Arc::clone(&open.entry.entrance)));
        }
        self.lead(service);
    }

    fn open(&mut self, service: &Arc<str>, entry: Entry) {
        match Open::new(&entry, &self.common) {
            Ok(open) => {
                debug!(%service, cr = %entry.entrance.cr, port = entry.entrance.target_port, "destination is served");
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

    /// Nothing is served of it until the manager has given it another port: its virtual IPs lead
    /// to nobody here, and whoever comes by its Service is refused.
    fn outdo(&mut self, service: &Arc<str>, entry: Entry) {
        let port = entry.entrance.target_port;
        let holder = self.claims.holder(port).map_or("another one", |holder| &**holder);
        let reason = format!("its target port {port} is that of the older Service {holder}");
        error!(%service, cr = %entry.entrance.cr, port, %holder, "destination is not served: two Services have the same target port");
        self.board.failed(&entry.entrance, reason);
        self.outdone.insert(Arc::clone(service), entry);
    }

    /// Lets its virtual IPs lead to it. The listener is open, so nobody who is redirected is
    /// refused.
    fn lead(&mut self, service: &Arc<str>) {
        let (Some(open), Some(table)) = (self.open.get_mut(service), &self.table) else {
            return;
        };
        match open.announce(&self.common, table) {
            Ok(()) => {
                self.incomplete.remove(service);
            }
            Err(error) if self.incomplete.insert(Arc::clone(service)) => {
                let cr = &open.entry.entrance.cr;
                warn!(%cr, %error, "a virtual IP is served by the Service alone");
            }
            Err(_again) => {}
        }
    }

    fn close(&mut self, service: &Arc<str>) {
        self.incomplete.remove(service);
        if let Some(open) = self.open.remove(service) {
            info!(%service, cr = %open.entry.entrance.cr, "destination is not served any more");
            self.board.close(&open.entry.entrance);
            self.common.gate.refusals.forget(&open.entry.entrance.cr);
            open.served.retire(self.table.as_ref());
            self.retired.push(open);
        }
    }

    /// Ends the series of a destination that neither exists nor is asked for by a CR.
    fn forget_if_gone(&self, destination: &str) {
        let planes = &self.common.planes;
        let exists = planes.destinations.secret(destination).is_some();
        let is_asked_for = || {
            let mut served = self.open.values().chain(&self.retired);
            served.any(|open| open.entry.cr.destination() == destination)
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
        let limits = common.limits.of(entrance.speaks);
        let way = Arc::new(Way::new(entrance.cr.clone(), door, Arc::clone(&endpoint), limits));
        let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, entrance.target_port));
        let (gate, leads) = (Arc::clone(&common.gate), Arc::clone(&way));
        let enter = move |accepted| Arc::clone(&gate).enter(accepted, Arc::clone(&leads));
        let turnstile = Turnstile {
            gate: Arc::clone(&common.gate),
            way: Arc::clone(&way),
        };
        Ok(Self {
            entry: entry.clone(),
            basis,
            served: Served::open(address, endpoint, turnstile, drain, &common.supervisor, enter)?,
            way,
        })
    }

    /// Otherwise it is another destination: nothing of the old one must reach it.
    fn is_at_the_same_place(&self, entry: &Entry) -> bool {
        let (here, there) = (&self.entry.entrance, &entry.entrance);
        here.cr == there.cr && here.target_port == there.target_port
    }

    fn change(&mut self, entry: Entry, common: &Common) {
        self.keep_to(entry.audience.clone(), common);
        self.entry = entry;
        self.renew_plane(&common.planes);
        self.way.keep_to(common.limits.of(self.entry.entrance.speaks));
    }

    /// Only these may connect, and stay connected.
    fn keep_to(&mut self, audience: Audience, common: &Common) {
        if self.entry.audience == audience {
            return;
        }
        info!(cr = %self.entry.entrance.cr, ?audience, "scope has changed");
        let undecided = self.way.door.open_to(&audience);
        self.entry.audience = audience;
        if !undecided.is_empty() {
            let gate = Arc::clone(&common.gate);
            tokio::spawn(gate.look_again(undecided, Arc::clone(&self.way)));
        }
    }

    fn renew_plane(&mut self, planes: &Planes) {
        let basis = planes.basis(&self.entry);
        if basis != self.basis {
            let endpoint = &self.way.endpoint;
            endpoint.replace(planes.plane(&self.entry, &basis, endpoint.parts()));
            self.basis = basis;
        }
    }

    fn announce(&mut self, common: &Common, table: &VirtualIps) -> Result<(), VirtualIpError> {
        let routes = routes(&self.entry, &common.ips, &common.numbers);
        self.served.announce(&routes, table)
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
