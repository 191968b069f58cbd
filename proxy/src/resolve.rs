//! Step 3 of the data path: which destination is meant, and how it is configured.

pub mod check;
pub mod destination;
pub mod directory;
pub mod gateway;
pub mod keystore;
pub mod pods;
pub mod properties;
pub mod scope;
pub mod source;

use std::sync::Arc;

use self::check::Obstacle;
use self::source::secrets::{FindError, Refused};

/// Why there is no destination to go to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The endpoint belongs to no destination (any more).
    #[error("no destination is configured here")]
    NoDestination,
    /// The Destination CR asks for what is not there or not possible.
    #[error(transparent)]
    CustomResource(#[from] Obstacle),
    /// The request asks for it.
    #[error(transparent)]
    Request(#[from] gateway::Error),
    #[error("the Destination CR names a destination that does not exist")]
    NotFound,
    #[error("the request names a destination that does not exist")]
    NotFoundByGateway,
    #[error("the configuration is invalid: {0}")]
    InvalidConfiguration(Arc<Refused>),
    /// A gateway leads to HTTP destinations only.
    #[error("the request names a destination that is not of Type HTTP")]
    NotHttp,
    /// Nothing is known yet of the source's destinations.
    #[error("the destinations have not been read yet")]
    NotAvailable,
}

impl Error {
    /// Of a Destination CR that names its destination.
    pub fn of_static(error: FindError) -> Self {
        Self::of(error, Self::NotFound)
    }

    /// Of a gateway, whose requests name their destinations.
    pub fn of_gateway(error: FindError) -> Self {
        Self::of(error, Self::NotFoundByGateway)
    }

    fn of(error: FindError, not_found: Self) -> Self {
        match error {
            FindError::NotFound => not_found,
            FindError::Invalid(refused) => Self::InvalidConfiguration(refused),
            FindError::NotLoaded => Self::NotAvailable,
        }
    }
}
