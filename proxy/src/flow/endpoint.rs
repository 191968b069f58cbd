//! What is served at one listener, as it is configured now.

use std::sync::Arc;

use ::http::HeaderMap;
use arc_swap::ArcSwap;
use bytes::Bytes;

use super::http::{self, HttpParts, Lazy, Refusal, Resolved, Selection, Unusable};
use super::stream::{NoTcpService, TcpParts, TcpService};
use crate::api::tenant::TenantMode;
use crate::resolve;
use crate::resolve::destination::{Destination, DestinationName, Protocol};

/// What endpoints are made with.
#[derive(Clone)]
pub struct Parts {
    pub http: HttpParts,
    pub tcp: TcpParts,
}

/// How connections are served.
pub enum Plane {
    /// One HTTP destination, whoever asks.
    Http(Lazy),
    /// The HTTP destination that the head of each request leads to.
    Selected(Selection),
    Tcp(Arc<TcpService>),
    NoTcp(Arc<NoTcpService>),
}

impl Plane {
    pub fn of(destination: &Arc<Destination>, parts: &Parts) -> Self {
        match &destination.protocol {
            Protocol::Http(http) => Self::Http(Lazy::new(destination, http)),
            Protocol::Tcp(tcp) => {
                let name = destination.name.clone();
                let service = TcpService::new(name, Arc::clone(tcp), parts.tcp.clone());
                Self::Tcp(Arc::new(service))
            }
        }
    }

    /// Makes at once what else the first request makes, and so finds what cannot be used.
    pub fn prepare(&self, parts: &Parts) -> Result<(), Arc<Unusable>> {
        match self {
            Self::Http(lazy) => lazy.service(&parts.http).map(drop).map_err(Arc::clone),
            Self::Selected(_) | Self::Tcp(_) | Self::NoTcp(_) => Ok(()),
        }
    }
}

/// What serves the connections of one listener. Its plane is swapped as a whole; open
/// connections ask anew with every request.
pub struct Endpoint {
    /// In metrics, for requests that lead to no destination.
    label: DestinationName,
    parts: Parts,
    /// Refuses header fields by which requests select destinations, where these are none to select.
    refuses_selection: Option<TenantMode>,
    plane: ArcSwap<Plane>,
}

/// How a connection begins.
pub(super) enum Beginning {
    Http,
    Tcp(Arc<TcpService>),
    NoTcp(Arc<NoTcpService>),
}

impl Endpoint {
    pub fn new(label: DestinationName, parts: Parts, plane: Plane) -> Self {
        Self {
            label,
            parts,
            refuses_selection: None,
            plane: ArcSwap::from_pointee(plane),
        }
    }

    /// Refuses requests that select a destination where there is one for all. Otherwise nobody
    /// looks at such fields.
    #[must_use]
    pub fn refusing_selection(self, mode: TenantMode) -> Self {
        Self {
            refuses_selection: Some(mode),
            ..self
        }
    }

    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// From now on for new connections and the next requests of open ones.
    pub fn replace(&self, plane: Plane) {
        self.plane.store(Arc::new(plane));
    }

    /// Names the connections.
    pub(super) fn label(&self) -> &DestinationName {
        &self.label
    }

    /// Forgets what is kept for destinations that nobody has asked for since the last call.
    pub fn rest(&self) {
        let plane = self.plane.load();
        match &**plane {
            Plane::Http(lazy) if lazy.is_idle() => {
                // Unless it is replaced just now.
                self.plane
                    .compare_and_swap(&*plane, Arc::new(Plane::Http(lazy.afresh())));
            }
            Plane::Selected(selection) => selection.rest(),
            Plane::Http(_) | Plane::Tcp(_) | Plane::NoTcp(_) => {}
        }
    }

    /// For connections that there is no room for.
    pub fn farewell(&self) -> Option<Bytes> {
        match &**self.plane.load() {
            Plane::Http(_) | Plane::Selected(_) => Some(http::overloaded(&self.label)),
            Plane::Tcp(_) | Plane::NoTcp(_) => None,
        }
    }

    pub(super) fn begin(&self) -> Beginning {
        match &**self.plane.load() {
            Plane::Http(_) | Plane::Selected(_) => Beginning::Http,
            Plane::Tcp(service) => Beginning::Tcp(Arc::clone(service)),
            Plane::NoTcp(service) => Beginning::NoTcp(Arc::clone(service)),
        }
    }

    /// For one request of a connection that began as HTTP.
    pub(super) fn resolve(&self, head: &HeaderMap) -> Resolved {
        match &**self.plane.load() {
            Plane::Http(lazy) => match self.refuses_selection {
                Some(mode) => lazy.resolve_unselected(head, mode, &self.parts.http),
                None => lazy.resolve(&self.parts.http),
            },
            Plane::Selected(selection) => selection.resolve(head, &self.parts.http),
            // The destination has become another type.
            Plane::Tcp(_) | Plane::NoTcp(_) => Err(self.nothing()),
        }
    }

    fn nothing(&self) -> Box<Refusal> {
        let error = resolve::Error::NoDestination.into();
        Refusal::new(error, self.label.to_string(), &self.label, &self.parts.http)
    }
}
