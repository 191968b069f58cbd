//! What is served right now: a listener, a virtual IP and a plane for every destination.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tracing::{error, info};

use super::hosts;
use super::table::Row;
use super::virtual_ip::{Exhausted, VirtualIpPool};
use crate::accept::Limits;
use crate::app::serving::{Route, Served};
use crate::connect::direct::OwnAddresses;
use crate::datapath::{NamespaceNumber, VirtualIpError, VirtualIps};
use crate::flow::http::Unusable;
use crate::flow::{self, Endpoint, Plane};
use crate::lifecycle::drain::Drain;
use crate::lifecycle::supervisor::Supervisor;
use crate::lifecycle::workers::Workers;
use crate::resolve::destination::{Destination, DestinationName, Protocol, Version};
use crate::resolve::source::files::{Loaded, Snapshot, State};

/// What all destinations share.
pub(super) struct Parts {
    pub(super) workers: Workers,
    pub(super) listen: IpAddr,
    pub(super) virtual_ips: VirtualIps,
    pub(super) own: Arc<OwnAddresses>,
    pub(super) limits: Arc<Limits>,
    pub(super) supervisor: Supervisor,
    pub(super) flow: flow::Parts,
}

/// Why a destination is not served.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    NoVirtualIp(#[from] Exhausted),
    #[error("its listener cannot be opened: {0}")]
    Listen(#[from] io::Error),
    #[error("its virtual IP cannot be announced to the kernel: {0}")]
    Announce(#[from] VirtualIpError),
    #[error(transparent)]
    Unusable(#[from] Arc<Unusable>),
}

/// The destinations, kept as the files say by [`Serving::apply`].
pub(super) struct Serving {
    parts: Parts,
    addresses: VirtualIpPool,
    drain: Drain,
    destinations: BTreeMap<DestinationName, One>,
}

/// One destination with its listener.
struct One {
    virtual_address: SocketAddr,
    destination: Arc<Destination>,
    served: Served,
}

impl One {
    fn describe(&self) -> super::table::Served {
        let protocol = &self.destination.protocol;
        super::table::Served {
            virtual_ip: self.virtual_address.ip(),
            port: self.virtual_address.port(),
            kind: protocol.as_str(),
            target: target(protocol),
        }
    }

    fn announce(&mut self, virtual_address: SocketAddr, table: &VirtualIps) -> Result<(), VirtualIpError> {
        let route = Route {
            virtual_address,
            proxy: self.served.listener,
            namespace: NamespaceNumber::NONE,
        };
        self.served.announce(&BTreeSet::from([route]), table)?;
        self.virtual_address = virtual_address;
        Ok(())
    }
}

impl Serving {
    pub(super) fn new(parts: Parts, addresses: VirtualIpPool, drain: Drain) -> Self {
        Self {
            parts,
            addresses,
            drain,
            destinations: BTreeMap::new(),
        }
    }

    /// Serves what the snapshot holds. A destination that cannot be served disturbs no other.
    pub(super) fn apply(&mut self, snapshot: &Snapshot) {
        self.remove_all_but(snapshot);
        for destination in snapshot.destinations.iter().filter_map(Loaded::current) {
            if let Err(error) = self.serve(destination) {
                error!(destination = %destination.name, %error, "destination is not served as configured");
            }
        }
        self.parts.own.replace(
            self.destinations.values().map(|one| one.virtual_address.ip()),
            self.destinations.values().map(|one| one.served.listener),
        );
    }

    pub(super) fn is_empty(&self) -> bool {
        self.destinations.is_empty()
    }

    /// Names for hosts files.
    pub(super) fn names(&self) -> Vec<hosts::Entry> {
        let entry = |(name, one): (&DestinationName, &One)| hosts::Entry {
            address: one.virtual_address.ip(),
            name: name.to_string(),
        };
        self.destinations.iter().map(entry).collect()
    }

    /// All destinations of the files, also those that cannot be served.
    pub(super) fn table(&self, snapshot: &Snapshot) -> Vec<Row> {
        let row = |loaded: &Loaded| Row {
            name: loaded.name.to_string(),
            served: self.destinations.get(&loaded.name).map(One::describe),
            broken: matches!(loaded.state, State::Broken { .. }),
        };
        snapshot.destinations.iter().map(row).collect()
    }

    fn remove_all_but(&mut self, snapshot: &Snapshot) {
        let wanted = |name: &DestinationName| {
            snapshot
                .destinations
                .iter()
                .any(|loaded| loaded.name == *name && loaded.current().is_some())
        };
        let virtual_ips = &self.parts.virtual_ips;
        self.destinations.retain(|name, one| {
            let keep = wanted(name);
            if !keep {
                info!(destination = %name, "destination is gone");
                one.served.close(Some(virtual_ips));
            }
            keep
        });
    }

    fn serve(&mut self, destination: &Arc<Destination>) -> Result<(), Error> {
        let served = self.destinations.get(&destination.name);
        match served.map(|one| one.destination.version) {
            Some(version) if version == destination.version => Ok(()),
            Some(version) => self.change(version, destination),
            None => self.add(destination),
        }
    }

    fn add(&mut self, destination: &Arc<Destination>) -> Result<(), Error> {
        let plane = self.plane(destination)?;
        let address = self.addresses.address(&destination.name)?;
        let flow = self.parts.flow.clone();
        let endpoint = Arc::new(Endpoint::new(destination.name.clone(), flow, plane));
        let (workers, serves) = (self.parts.workers.clone(), Arc::clone(&endpoint));
        let served = Served::open(
            SocketAddr::new(self.parts.listen, 0),
            endpoint,
            Arc::clone(&self.parts.limits),
            self.drain.child(),
            &self.parts.supervisor,
            move |accepted| flow::hand_over(accepted, workers.clone(), Arc::clone(&serves)),
        )?;
        let mut one = One {
            virtual_address: SocketAddr::new(address, destination.service_port),
            destination: Arc::clone(destination),
            served,
        };
        // The listener is open, so nobody who is redirected is refused.
        if let Err(error) = one.announce(one.virtual_address, &self.parts.virtual_ips) {
            one.served.close(None);
            return Err(error.into());
        }
        self.destinations.insert(destination.name.clone(), one);
        Ok(())
    }

    /// A new version serves new connections and the next requests of open ones.
    fn change(&mut self, before: Version, destination: &Arc<Destination>) -> Result<(), Error> {
        let plane = self.plane(destination)?;
        let Some(one) = self.destinations.get_mut(&destination.name) else {
            return Ok(());
        };
        info!(destination = %destination.name, ?before, now = ?destination.version, "destination has changed");
        let address = SocketAddr::new(one.virtual_address.ip(), destination.service_port);
        one.announce(address, &self.parts.virtual_ips)?;
        one.served.endpoint.replace(plane);
        one.destination = Arc::clone(destination);
        Ok(())
    }

    /// What cannot be used shows now, and not when somebody asks for it.
    fn plane(&self, destination: &Arc<Destination>) -> Result<Plane, Error> {
        let plane = Plane::of(destination, &self.parts.flow);
        plane.prepare(&self.parts.flow)?;
        Ok(plane)
    }
}

/// `https://host, BasicAuthentication`
fn target(protocol: &Protocol) -> String {
    match protocol.authentication() {
        Some(authentication) => format!("{}, {authentication}", protocol.target()),
        None => protocol.target(),
    }
}
