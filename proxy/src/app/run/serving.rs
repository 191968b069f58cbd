//! What is served right now: a listener, a virtual IP and a plane for every destination.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tracing::{error, info, warn};

use super::hosts;
use super::table::{Row, Served};
use super::virtual_ip::{Exhausted, VirtualIpPool};
use crate::accept::{self, Limits};
use crate::connect::direct::OwnAddresses;
use crate::datapath::{NamespaceNumber, VirtualIpError, VirtualIps};
use crate::flow::http::{self, HttpParts, HttpService};
use crate::flow::stream::{TcpParts, TcpService};
use crate::flow::{self, Plane};
use crate::lifecycle::drain::Drain;
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
    pub(super) http: HttpParts,
    pub(super) tcp: TcpParts,
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
    Http(#[from] http::Unusable),
}

/// The destinations, kept as the files say by [`Serving::apply`].
pub(super) struct Serving {
    parts: Parts,
    addresses: VirtualIpPool,
    drain: Drain,
    endpoints: BTreeMap<DestinationName, Endpoint>,
}

/// One destination with its listener.
struct Endpoint {
    virtual_address: SocketAddr,
    listener: SocketAddr,
    destination: Arc<Destination>,
    plane: Arc<ArcSwap<Plane>>,
    drain: Drain,
}

impl Endpoint {
    fn describe(&self) -> Served {
        let protocol = &self.destination.protocol;
        Served {
            virtual_ip: self.virtual_address.ip(),
            port: self.virtual_address.port(),
            kind: protocol.as_str(),
            target: target(protocol),
        }
    }
}

impl Serving {
    pub(super) fn new(parts: Parts, addresses: VirtualIpPool, drain: Drain) -> Self {
        Self {
            parts,
            addresses,
            drain,
            endpoints: BTreeMap::new(),
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
            self.endpoints
                .values()
                .map(|endpoint| endpoint.virtual_address.ip()),
            self.endpoints.values().map(|endpoint| endpoint.listener),
        );
    }

    pub(super) fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    /// Names for hosts files.
    pub(super) fn names(&self) -> Vec<hosts::Entry> {
        let entry = |(name, endpoint): (&DestinationName, &Endpoint)| hosts::Entry {
            address: endpoint.virtual_address.ip(),
            name: name.to_string(),
        };
        self.endpoints.iter().map(entry).collect()
    }

    /// All destinations of the files, also those that cannot be served.
    pub(super) fn table(&self, snapshot: &Snapshot) -> Vec<Row> {
        let row = |loaded: &Loaded| Row {
            name: loaded.name.to_string(),
            served: self.endpoints.get(&loaded.name).map(Endpoint::describe),
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
        self.endpoints.retain(|name, endpoint| {
            let keep = wanted(name);
            if !keep {
                info!(destination = %name, "destination is gone");
                withdraw(virtual_ips, name, endpoint.virtual_address);
                endpoint.drain.start();
                if let Plane::Tcp(_) = **endpoint.plane.load() {
                    endpoint.drain.cut();
                }
            }
            keep
        });
    }

    fn serve(&mut self, destination: &Arc<Destination>) -> Result<(), Error> {
        match self
            .endpoints
            .get(&destination.name)
            .map(|endpoint| endpoint.destination.version)
        {
            Some(version) if version == destination.version => Ok(()),
            Some(version) => self.change(version, destination),
            None => self.add(destination),
        }
    }

    fn add(&mut self, destination: &Arc<Destination>) -> Result<(), Error> {
        let plane = Arc::new(ArcSwap::from_pointee(self.plane(destination)?));
        let address = self.addresses.address(&destination.name)?;
        let listener = accept::bind(SocketAddr::new(self.parts.listen, 0))?;
        let endpoint = Endpoint {
            virtual_address: SocketAddr::new(address, destination.service_port),
            listener: listener.local_addr()?,
            destination: Arc::clone(destination),
            plane,
            drain: self.drain.child(),
        };
        // The listener is open, so nobody who is redirected is refused.
        announce(
            &self.parts.virtual_ips,
            endpoint.virtual_address,
            endpoint.listener,
        )?;
        let served = Arc::clone(&endpoint.plane);
        let workers = self.parts.workers.clone();
        tokio::spawn(accept::serve(
            listener,
            Arc::clone(&self.parts.limits),
            endpoint.drain.watch(),
            move |accepted| flow::hand_over(accepted, workers.clone(), Arc::clone(&served)),
        ));
        self.endpoints.insert(destination.name.clone(), endpoint);
        Ok(())
    }

    /// A new version serves new connections and the next requests of open ones.
    fn change(&mut self, before: Version, destination: &Arc<Destination>) -> Result<(), Error> {
        let plane = self.plane(destination)?;
        let Some(endpoint) = self.endpoints.get_mut(&destination.name) else {
            return Ok(());
        };
        info!(destination = %destination.name, ?before, now = ?destination.version, "destination has changed");
        let address = SocketAddr::new(endpoint.virtual_address.ip(), destination.service_port);
        if address != endpoint.virtual_address {
            announce(&self.parts.virtual_ips, address, endpoint.listener)?;
            withdraw(
                &self.parts.virtual_ips,
                &destination.name,
                endpoint.virtual_address,
            );
            endpoint.virtual_address = address;
        }
        endpoint.plane.store(Arc::new(plane));
        endpoint.destination = Arc::clone(destination);
        Ok(())
    }

    fn plane(&self, destination: &Arc<Destination>) -> Result<Plane, Error> {
        Ok(match &destination.protocol {
            Protocol::Http(http) => Plane::Http(Arc::new(HttpService::new(
                destination,
                http,
                self.parts.http.clone(),
            )?)),
            Protocol::Tcp(tcp) => {
                let service =
                    TcpService::new(destination.name.clone(), Arc::clone(tcp), self.parts.tcp.clone());
                Plane::Tcp(Arc::new(service))
            }
        })
    }
}

/// Without Kubernetes there are no namespaces: whoever is hooked may connect.
fn announce(
    virtual_ips: &VirtualIps,
    address: SocketAddr,
    listener: SocketAddr,
) -> Result<(), VirtualIpError> {
    virtual_ips.insert(address, listener, NamespaceNumber::NONE)
}

fn withdraw(virtual_ips: &VirtualIps, name: &DestinationName, address: SocketAddr) {
    if let Err(error) = virtual_ips.remove(address) {
        warn!(destination = %name, %address, %error, "virtual IP stays announced to the kernel");
    }
}

/// `https://host, BasicAuthentication`
fn target(protocol: &Protocol) -> String {
    match protocol.authentication() {
        Some(authentication) => format!("{}, {authentication}", protocol.target()),
        None => protocol.target(),
    }
}
