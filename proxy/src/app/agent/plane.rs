//! How an entry of the directory is served: its destination as it is configured now, or why
//! there is none.

use std::sync::Arc;

use http::HeaderMap;

use crate::api::destination::ANY_DESTINATION;
use crate::api::tenant::TenantMode;
use crate::config::kubernetes::File;
use crate::flow::http::{NotSelected, Select, Selection};
use crate::flow::stream::NoTcpService;
use crate::flow::{Behalf, Endpoint, Parts, Plane};
use crate::resolve::check::Obstacle;
use crate::resolve::destination::{Destination, DestinationName};
use crate::resolve::directory::{CrName, Entry, Speaks};
use crate::resolve::source::secrets::{INSTANCE, Query, Reader};
use crate::resolve::{Error, gateway};

/// Looks up what entries lead to.
pub(super) struct Planes {
    pub(super) parts: Parts,
    pub(super) destinations: Reader,
    pub(super) settings: Arc<File>,
}

/// What a plane is made of. Where it is the same, the plane need not be made again.
#[derive(Debug, Clone)]
pub(super) enum Basis {
    /// Requests say which destination they mean.
    Gateway,
    Destination(Arc<Destination>),
    Nothing(Nothing),
}

/// Why there is no destination, and what is told about it to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Nothing {
    destination: String,
    speaks: Speaks,
    error: Error,
}

impl PartialEq for Basis {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Gateway, Self::Gateway) => true,
            (Self::Destination(one), Self::Destination(other)) => {
                one.name == other.name && one.version == other.version
            }
            (Self::Nothing(one), Self::Nothing(other)) => one == other,
            _ => false,
        }
    }
}

impl Planes {
    pub(super) fn endpoint(&self, entry: &Entry) -> (Basis, Arc<Endpoint>) {
        let basis = self.basis(entry);
        let parts = self.parts_for(&entry.entrance.cr);
        let plane = self.plane(entry, &basis, &parts);
        let endpoint =
            Endpoint::new(label(entry), parts, plane).refusing_selection(self.settings.tenant_mode);
        (basis, Arc::new(endpoint))
    }

    /// What the entry is served by now.
    pub(super) fn basis(&self, entry: &Entry) -> Basis {
        let cr = &entry.cr;
        let nothing = |error| {
            Basis::Nothing(Nothing {
                destination: cr.destination().to_owned(),
                speaks: entry.entrance.speaks,
                error,
            })
        };
        if let Some(obstacle) = Obstacle::of(&cr.resource(), &self.settings) {
            return nothing(obstacle.into());
        }
        let destination = cr.destination();
        if destination == ANY_DESTINATION {
            return Basis::Gateway;
        }
        let query = Query {
            destination,
            cr_namespace: &cr.name.namespace,
        };
        match self.destinations.find(&query) {
            Ok(destination) => Basis::Destination(destination),
            Err(error) => nothing(Error::of_static(error)),
        }
    }

    /// `parts` are the endpoint's.
    pub(super) fn plane(&self, entry: &Entry, basis: &Basis, parts: &Parts) -> Plane {
        match basis {
            Basis::Destination(destination) => Plane::of(destination, parts),
            Basis::Gateway => Self::selected(entry, self.by_gateway(&entry.cr.name.namespace)),
            Basis::Nothing(nothing) => match nothing.speaks {
                Speaks::Http => Self::selected(entry, self.nothing(nothing)),
                Speaks::Tcp => {
                    let (name, error) = (nothing.destination.clone(), nothing.error.clone());
                    Plane::NoTcp(Arc::new(NoTcpService::new(name, error, parts.tcp.clone())))
                }
            },
        }
    }

    fn selected(entry: &Entry, select: Select) -> Plane {
        Plane::Selected(Selection::new(label(entry), select))
    }

    /// The destination that a request names, as far as the namespace of the CR may use it.
    fn by_gateway(&self, namespace: &Arc<str>) -> Select {
        let (destinations, mode) = (self.destinations.clone(), self.settings.tenant_mode);
        let namespace = Arc::clone(namespace);
        Arc::new(move |head: &HeaderMap| {
            let named = gateway::select(head, mode).map_err(|error| NotSelected {
                error: error.into(),
                destination: ANY_DESTINATION.to_owned(),
            })?;
            let query = Query {
                destination: named.as_str(),
                cr_namespace: &namespace,
            };
            destinations.find(&query).map_err(|error| NotSelected {
                error: Error::of_gateway(error),
                destination: named.to_string(),
            })
        })
    }

    /// The same answer for every request.
    fn nothing(&self, nothing: &Nothing) -> Select {
        let (nothing, mode) = (nothing.clone(), self.settings.tenant_mode);
        Arc::new(move |head: &HeaderMap| {
            let Nothing {
                destination, error, ..
            } = &nothing;
            Err(NotSelected {
                error: refused_before(head, mode, error).unwrap_or_else(|| error.clone()),
                destination: destination.clone(),
            })
        })
    }

    fn parts_for(&self, cr: &CrName) -> Parts {
        let behalf = Behalf::new(Arc::clone(&cr.namespace), Arc::clone(&cr.name), INSTANCE);
        let mut parts = self.parts.clone();
        parts.http.behalf = Some(Arc::clone(&behalf));
        parts.tcp.behalf = Some(behalf);
        parts
    }
}

/// Requests are checked before destinations are looked up, but after the CR itself.
fn refused_before(head: &HeaderMap, mode: TenantMode, error: &Error) -> Option<Error> {
    match error {
        Error::CustomResource(_) => None,
        _ => gateway::check_static(head, mode).err().map(Error::from),
    }
}

fn label(entry: &Entry) -> DestinationName {
    DestinationName::new_unchecked(entry.cr.destination())
}
