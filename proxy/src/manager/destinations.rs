//! What is known of the destinations that CRs name.

use crate::api::condition::Verdict;
use crate::config::kubernetes::File;
use crate::resolve::check::{self, Configured, NotConfigured, Obstacle};
use crate::resolve::source::secrets::{Changes, Query, Reader};

use super::custom_resource::CustomResource;

/// The sources of destinations, and what the installation makes of them.
pub struct Destinations {
    pub secrets: Reader,
    pub settings: File,
}

impl Destinations {
    pub(super) fn check(&self, cr: &CustomResource) -> Result<Configured, NotConfigured> {
        let destination = &*cr.destination;
        if let Some(error) = &cr.broken {
            let verdict = Verdict::failed(format!("The Destination CR is not understood: {error}."));
            return Err(NotConfigured::Refused(verdict));
        }
        if let Some(obstacle) = Obstacle::of(destination, &self.settings) {
            let verdict = obstacle.verdict(destination.metadata.name.as_deref().unwrap_or_default());
            // What a gateway speaks is known, also where its destinations are not.
            return Err(if destination.is_gateway() && obstacle == Obstacle::Instance {
                NotConfigured::Answered(verdict)
            } else {
                NotConfigured::Refused(verdict)
            });
        }
        if destination.is_gateway() {
            return Ok(Configured::GATEWAY);
        }
        let query = Query {
            destination: &destination.spec.destination_ref.name,
            cr_namespace: destination.metadata.namespace.as_deref().unwrap_or_default(),
        };
        check::check(destination, self.secrets.find(&query))
    }

    pub(super) fn changes(&self) -> Changes {
        self.secrets.subscribe()
    }
}
