//! Endpoints whose requests say which destination they mean.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use http::HeaderMap;

use super::lazy::Lazy;
use super::server::Resolved;
use super::{HttpParts, Refusal, headers};
use crate::error::Error;
use crate::resolve;
use crate::resolve::destination::{Destination, DestinationName, Protocol};

/// The destination that the head of a request asks for. No field that decides stands there
/// more than once.
pub type Select = Arc<dyn Fn(&HeaderMap) -> Result<Arc<Destination>, NotSelected> + Send + Sync>;

/// Why a request leads to no destination.
#[derive(Debug)]
pub struct NotSelected {
    pub error: resolve::Error,
    /// What was asked for, for messages.
    pub destination: String,
}

/// Selects a destination per request, and keeps the services of those that were asked for.
pub struct Selection {
    /// In metrics, for requests that lead nowhere: names that they made up would be without end.
    label: DestinationName,
    select: Select,
    services: RwLock<HashMap<DestinationName, Arc<Lazy>>>,
}

impl Selection {
    pub fn new(label: DestinationName, select: Select) -> Self {
        Self {
            label,
            select,
            services: RwLock::default(),
        }
    }

    pub(in crate::flow) fn resolve(&self, head: &HeaderMap, parts: &HttpParts) -> Resolved {
        let refusal = |error: Error, destination| Err(Refusal::new(error, destination, &self.label, parts));
        if let Err(repeated) = headers::refuse_repeated(head) {
            return refusal(repeated.into(), self.label.to_string());
        }
        match (self.select)(head) {
            Ok(destination) => match self.lazy(&destination) {
                Some(lazy) => lazy.resolve(parts),
                None => refusal(resolve::Error::NotHttp.into(), destination.name.to_string()),
            },
            Err(NotSelected { error, destination }) => refusal(error.into(), destination),
        }
    }

    /// Forgets the services that are [idle](Lazy::is_idle).
    pub(in crate::flow) fn rest(&self) {
        let mut services = self.services.write().unwrap_or_else(PoisonError::into_inner);
        services.retain(|_name, lazy| !lazy.is_idle());
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.services.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn lazy(&self, destination: &Arc<Destination>) -> Option<Arc<Lazy>> {
        let services = self.services.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(lazy) = services
            .get(&destination.name)
            .filter(|lazy| lazy.is_of(destination))
        {
            return Some(Arc::clone(lazy));
        }
        drop(services);
        self.insert(destination)
    }

    /// A new version takes the place of the one before.
    fn insert(&self, destination: &Arc<Destination>) -> Option<Arc<Lazy>> {
        let mut services = self.services.write().unwrap_or_else(PoisonError::into_inner);
        match services.get(&destination.name) {
            // Somebody else was faster.
            Some(lazy) if lazy.is_of(destination) => Some(Arc::clone(lazy)),
            _ => {
                let Protocol::Http(http) = &destination.protocol else {
                    return None;
                };
                let lazy = Arc::new(Lazy::new(destination, http));
                services.insert(destination.name.clone(), Arc::clone(&lazy));
                Some(lazy)
            }
        }
    }
}
