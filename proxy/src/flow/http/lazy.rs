//! Services are made for their first request: of thousands of destinations, few are in use.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use http::HeaderMap;

use super::server::Resolved;
use super::{HttpParts, HttpService, Refusal, Unusable, headers};
use crate::api::tenant::TenantMode;
use crate::error::{Error, Exchange};
use crate::resolve::destination::{Destination, HttpDestination};
use crate::resolve::{self, gateway};

/// One version of a destination and, once somebody has asked for it, its service.
pub struct Lazy {
    destination: Arc<Destination>,
    http: Arc<HttpDestination>,
    service: OnceLock<Result<Arc<HttpService>, Arc<Unusable>>>,
    /// Requests until the last call of [`Lazy::is_idle`].
    received: AtomicU64,
}

impl Lazy {
    pub fn new(destination: &Arc<Destination>, http: &Arc<HttpDestination>) -> Self {
        Self {
            destination: Arc::clone(destination),
            http: Arc::clone(http),
            service: OnceLock::new(),
            received: AtomicU64::new(0),
        }
    }

    /// As if nobody had asked yet.
    #[must_use]
    pub(in crate::flow) fn afresh(&self) -> Self {
        Self::new(&self.destination, &self.http)
    }

    pub(super) fn is_of(&self, destination: &Destination) -> bool {
        self.destination.version == destination.version
    }

    /// The service; makes it if need be, while others wait for the same.
    pub fn service(&self, parts: &HttpParts) -> Result<&Arc<HttpService>, &Arc<Unusable>> {
        let service = self.service.get_or_init(|| {
            HttpService::new(&self.destination, &self.http, parts.clone())
                .map(Arc::new)
                .map_err(Arc::new)
        });
        service.as_ref()
    }

    pub(in crate::flow) fn resolve(&self, parts: &HttpParts) -> Resolved {
        self.service(parts).map(Arc::clone).map_err(|unusable| {
            let error = Exchange::Unusable(Arc::clone(unusable) as _);
            self.refusal(error.into(), parts)
        })
    }

    /// Unless the request selects a destination; there is but this one.
    pub(in crate::flow) fn resolve_unselected(
        &self,
        head: &HeaderMap,
        mode: TenantMode,
        parts: &HttpParts,
    ) -> Resolved {
        headers::refuse_repeated(head).map_err(|error| self.refusal(error.into(), parts))?;
        gateway::check_static(head, mode)
            .map_err(|error| self.refusal(resolve::Error::from(error).into(), parts))?;
        self.resolve(parts)
    }

    fn refusal(&self, error: Error, parts: &HttpParts) -> Box<Refusal> {
        let name = &self.destination.name;
        Refusal::new(error, name.to_string(), name, parts)
    }

    /// Whether a service is there that got no request since the last call and has none now.
    pub(in crate::flow) fn is_idle(&self) -> bool {
        let Some(service) = self.service.get() else {
            return false;
        };
        let Ok(service) = service else { return true };
        let received = service.received();
        self.received.swap(received, Ordering::Relaxed) == received && Arc::strong_count(service) == 1
    }
}
