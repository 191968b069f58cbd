//! A listener, the virtual addresses that lead to it, and what it serves.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tracing::warn;

use crate::accept::{self, Accepted, Bounds, Limits, Over};
use crate::datapath::{NamespaceNumber, VirtualIpError, VirtualIps};
use crate::flow::Endpoint;
use crate::lifecycle::drain::Drain;
use crate::lifecycle::supervisor::Supervisor;

/// One open listener.
pub(super) struct Served {
    pub(super) listener: SocketAddr,
    pub(super) endpoint: Arc<Endpoint>,
    drain: Drain,
    /// In the kernel's table.
    routes: BTreeSet<Route>,
}

/// Limits of a listener that says in its own words that they are reached.
struct Polite<B> {
    bounds: B,
    endpoint: Arc<Endpoint>,
}

impl<B: Bounds> Bounds for Polite<B> {
    fn limits(&self) -> Arc<Limits> {
        self.bounds.limits()
    }

    fn refused(&self, over: &Over<'_>) {
        self.bounds.refused(over);
    }

    fn farewell(&self) -> Option<Bytes> {
        self.endpoint.farewell()
    }

    fn waits(&self) {
        self.bounds.waits();
    }
}

/// A virtual address and where connections to it go instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Route {
    pub(super) virtual_address: SocketAddr,
    pub(super) proxy: SocketAddr,
    /// Who may connect, as far as the kernel knows them.
    pub(super) namespace: NamespaceNumber,
}

impl Served {
    /// Opens the listener, whose loop `supervisor` runs. `handler` gets every connection, with the
    /// endpoint's drain.
    pub(super) fn open<B, H, F>(
        address: SocketAddr,
        endpoint: Arc<Endpoint>,
        bounds: B,
        drain: Drain,
        supervisor: &Supervisor,
        handler: H,
    ) -> io::Result<Self>
    where
        B: Bounds + 'static,
        H: Fn(Accepted) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = accept::bind(address)?;
        let served = Self {
            listener: listener.local_addr()?,
            endpoint,
            routes: BTreeSet::new(),
            drain,
        };
        let bounds = Polite {
            bounds,
            endpoint: Arc::clone(&served.endpoint),
        };
        supervisor.spawn(accept::serve(listener, bounds, served.drain.watch(), handler));
        Ok(served)
    }

    /// Lets exactly these routes lead here. The new ones come first, so that a changed
    /// port is served all the time.
    ///
    /// Those that the kernel does not take are not there afterwards; the others are, and the first
    /// error tells.
    pub(super) fn announce(
        &mut self,
        wanted: &BTreeSet<Route>,
        table: &VirtualIps,
    ) -> Result<(), VirtualIpError> {
        let mut done = Ok(());
        let new: Vec<Route> = wanted.difference(&self.routes).copied().collect();
        for route in new {
            match table.insert(route.virtual_address, route.proxy, route.namespace) {
                Ok(()) => {
                    // What led from there to here before was replaced.
                    self.routes
                        .retain(|known| known.virtual_address != route.virtual_address);
                    self.routes.insert(route);
                }
                Err(error) => done = done.and(Err(error)),
            }
        }
        let kept: BTreeSet<_> = wanted.iter().map(|route| route.virtual_address).collect();
        self.routes.retain(|route| {
            let stays = kept.contains(&route.virtual_address);
            if !stays {
                withdraw(table, route);
            }
            stays
        });
        done
    }

    /// Nothing new is accepted; streams end at once, HTTP after the answers that are on their way.
    pub(super) fn close(&self, table: Option<&VirtualIps>) {
        self.retire(table);
        self.revoke();
    }

    /// Nothing new is accepted; streams go on, HTTP ends after the answers that are on their way.
    pub(super) fn retire(&self, table: Option<&VirtualIps>) {
        if let Some(table) = table {
            self.routes.iter().for_each(|route| withdraw(table, route));
        }
        self.drain.start();
    }

    /// Streams end at once.
    pub(super) fn revoke(&self) {
        self.drain.revoke();
    }

    /// Whether nobody is connected any more, or may be.
    pub(super) fn is_over(&self) -> bool {
        self.drain.held() == 0 || self.drain.signal().is_revoked()
    }
}

/// Unless somebody else has the virtual address by now.
fn withdraw(table: &VirtualIps, route: &Route) {
    let address = route.virtual_address;
    if let Err(error) = table.remove_if_to(address, route.proxy) {
        warn!(%address, %error, "virtual IP stays announced to the kernel");
    }
}
