//! A listener, the virtual addresses that lead to it, and what it serves.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tracing::warn;

use crate::accept::{self, Accepted, Bounds};
use crate::datapath::{NamespaceNumber, VirtualIpError, VirtualIps};
use crate::flow::Endpoint;
use crate::lifecycle::drain::Drain;

/// One open listener.
pub(super) struct Served {
    pub(super) listener: SocketAddr,
    pub(super) endpoint: Arc<Endpoint>,
    drain: Drain,
    /// In the kernel's table.
    routes: BTreeSet<Route>,
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
    /// Opens the listener. `handler` gets every connection, with the endpoint's drain.
    pub(super) fn open<B, H, F>(
        address: SocketAddr,
        endpoint: Arc<Endpoint>,
        bounds: B,
        drain: Drain,
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
        tokio::spawn(accept::serve(listener, bounds, served.drain.watch(), handler));
        Ok(served)
    }

    /// Lets exactly these routes lead here. The new ones come first, so that a changed
    /// port is served all the time.
    pub(super) fn announce(
        &mut self,
        wanted: BTreeSet<Route>,
        table: &VirtualIps,
    ) -> Result<(), VirtualIpError> {
        for route in wanted.difference(&self.routes) {
            table.insert(route.virtual_address, route.proxy, route.namespace)?;
        }
        let kept: BTreeSet<_> = wanted.iter().map(|route| route.virtual_address).collect();
        for route in &self.routes {
            if !kept.contains(&route.virtual_address) {
                withdraw(table, route.virtual_address);
            }
        }
        self.routes = wanted;
        Ok(())
    }

    /// Nothing new is accepted; streams end at once, HTTP after the answers that are on their way.
    pub(super) fn close(&self, table: Option<&VirtualIps>) {
        if let Some(table) = table {
            self.routes
                .iter()
                .for_each(|route| withdraw(table, route.virtual_address));
        }
        self.drain.revoke();
    }
}

fn withdraw(table: &VirtualIps, address: SocketAddr) {
    if let Err(error) = table.remove(address) {
        warn!(%address, %error, "virtual IP stays announced to the kernel");
    }
}
