//! The check at design time: may the Destination CR be served, and how.
//!
//! Messages name properties and say what is expected, but never quote a value: whoever may
//! read a Destination CR need not be allowed to read Secrets.

mod classify;

use std::sync::Arc;

use super::destination::{Destination, Protocol};
use super::source::secrets::{FindError, INSTANCE, Refused};
use crate::api::condition::Verdict;
use crate::api::destination as api;
use crate::api::labels::TENANT_SUBDOMAINS;
use crate::api::tenant::TenantMode;
use crate::config::kubernetes::File;

/// How a Destination CR is to be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Configured {
    pub kind: Kind,
    /// Of the Service, unless the CR says another one.
    pub default_port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Http,
    Tcp,
}

impl Configured {
    /// A gateway's requests name their destinations, all of them HTTP.
    pub const GATEWAY: Self = Self {
        kind: Kind::Http,
        default_port: 80,
    };

    /// Of the Service.
    pub fn port(self, cr: &api::Destination) -> u16 {
        let service = cr.spec.service.as_ref();
        service
            .and_then(|service| service.port)
            .unwrap_or(self.default_port)
    }
}

/// Why a Destination CR is not served as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotConfigured {
    /// The source of destinations says so.
    Refused(Verdict),
    /// A gateway whose requests are answered with the reason.
    Answered(Verdict),
    /// The source cannot be asked yet: what was said before stays true.
    NotLoaded,
}

/// What became of the destination that the CR names.
pub fn check(
    cr: &api::Destination,
    found: Result<Arc<Destination>, FindError>,
) -> Result<Configured, NotConfigured> {
    let destination = found.map_err(|error| not_configured(cr, error))?;
    let kind = match destination.protocol {
        Protocol::Http(_) => Kind::Http,
        Protocol::Tcp(_) => Kind::Tcp,
    };
    Ok(Configured {
        kind,
        default_port: destination.service_port,
    })
}

fn not_configured(cr: &api::Destination, error: FindError) -> NotConfigured {
    let name = &cr.spec.destination_ref.name;
    NotConfigured::Refused(match error {
        FindError::NotLoaded => return NotConfigured::NotLoaded,
        FindError::NotFound => Verdict::destination_not_found(name, INSTANCE),
        FindError::Invalid(refused) => invalid(cr, &refused),
    })
}

fn invalid(cr: &api::Destination, refused: &Refused) -> Verdict {
    classify::verdict(&cr.spec.destination_ref.name, cr.fragment().is_some(), refused)
}

/// What a Destination CR asks for and does not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("the Destination CR asks for {}", self.what())]
pub enum Obstacle {
    /// A gateway that names a fragment.
    FragmentOfGateway,
    /// A gateway that names a level.
    LevelOfGateway,
    /// Neither its own nor the default instance is configured.
    Instance,
    /// The list of tenants is not one.
    Annotation,
    SharedTenants,
    Actions,
    Chain,
    Fragment,
    Level,
}

impl Obstacle {
    /// The first one. No destination is looked up for it.
    pub fn of(cr: &api::Destination, config: &File) -> Option<Self> {
        let has_level = cr.spec.destination_ref.level.is_some();
        let has_fragment = cr.fragment().is_some();
        let shared = config.tenant_mode == TenantMode::Shared;
        let obstacles = [
            (Self::FragmentOfGateway, cr.is_gateway() && has_fragment),
            (Self::LevelOfGateway, cr.is_gateway() && has_level),
            (Self::Instance, instance(cr, config) != INSTANCE),
            (Self::Annotation, shared && !has_good_annotation(cr)),
            (Self::SharedTenants, shared),
            (Self::Actions, has_actions(cr)),
            (Self::Chain, has_chain(cr)),
            (Self::Fragment, has_fragment),
            (Self::Level, has_level),
        ];
        let first = obstacles.into_iter().find(|(_, stands)| *stands);
        first.map(|(obstacle, _)| obstacle)
    }

    /// As the condition says it.
    pub fn verdict(self, cr: &str) -> Verdict {
        match self {
            Self::FragmentOfGateway => Verdict::static_fragment_on_gateway(),
            Self::LevelOfGateway => Verdict::static_level_on_gateway(),
            Self::Instance => Verdict::instance_not_configured(cr),
            Self::Annotation => Verdict::annotation_invalid(),
            Self::SharedTenants | Self::Actions | Self::Chain | Self::Fragment | Self::Level => {
                let what = self.what();
                Verdict::failed(format!(
                    "{what} is not supported by Destination service instance '{INSTANCE}'."
                ))
            }
        }
    }

    /// The part of the CR or configuration that stands in the way.
    pub fn what(self) -> &'static str {
        match self {
            Self::FragmentOfGateway | Self::Fragment => "'spec.fragmentRef'",
            Self::LevelOfGateway | Self::Level => "'spec.destinationRef.level'",
            Self::Instance => "'spec.destinationServiceInstanceName'",
            Self::Annotation | Self::SharedTenants => "'config.tenantMode: shared'",
            Self::Actions => "'spec.actions'",
            Self::Chain => "'spec.chainRef'",
        }
    }
}

/// The instance that the CR is served from.
fn instance<'a>(cr: &'a api::Destination, config: &'a File) -> &'a str {
    let default = config.default_instance_name.as_deref();
    let default = default.filter(|name| !name.is_empty());
    cr.instance().or(default).unwrap_or(INSTANCE)
}

fn has_actions(cr: &api::Destination) -> bool {
    cr.spec
        .actions
        .as_ref()
        .is_some_and(|actions| !actions.is_empty())
}

/// Variables without a chain mean nothing.
fn has_chain(cr: &api::Destination) -> bool {
    let chain = cr.spec.chain_ref.as_ref();
    let name = chain.and_then(|chain| chain.name.as_deref());
    name.is_some_and(|name| !name.is_empty())
}

/// A JSON array of texts that are not empty, or no annotation.
fn has_good_annotation(cr: &api::Destination) -> bool {
    let annotations = cr.metadata.annotations.as_ref();
    let Some(value) = annotations.and_then(|all| all.get(TENANT_SUBDOMAINS)) else {
        return true;
    };
    let tenants = serde_json::from_str::<Vec<String>>(value);
    tenants.is_ok_and(|tenants| tenants.iter().all(|tenant| !tenant.is_empty()))
}

#[cfg(test)]
mod tests;
