//! One Secret's claim to be a destination.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::snapshot::Harmless;
use super::{AllowedNamespaces, Refused};
use crate::resolve::destination::{Destination, Warning};

/// Where a Secret is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretName {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// One version of one Secret, understood.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) secret: SecretName,
    /// Equal ones are the same version of the same object.
    pub(super) generation: Generation,
    pub(super) created: Option<Time>,
    pub(super) destination: Arc<str>,
    pub(super) allowed: AllowedNamespaces,
    pub(super) outcome: Result<Arc<Destination>, Arc<Refused>>,
    /// About the Secret rather than its properties.
    pub(super) warnings: Vec<Warning>,
    /// For the snapshot, where there is nothing to hide.
    pub(super) harmless: Option<Harmless>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Generation {
    pub(super) uid: String,
    pub(super) resource_version: String,
}

impl Claim {
    /// The older Secret keeps the name; API servers count in seconds, so names decide last.
    pub(super) fn precedence(&self, other: &Self) -> Ordering {
        let key = |claim: &Self| claim.created.as_ref().map(|time| time.0);
        // A Secret without time was made by nobody's API server.
        let oldest = (key(self).is_none(), key(self)).cmp(&(key(other).is_none(), key(other)));
        oldest.then_with(|| self.secret.cmp(&other.secret))
    }

    /// Whether those who ask see no difference.
    pub(super) fn answers_like(&self, other: &Self) -> bool {
        self.allowed == other.allowed && self.outcome == other.outcome
    }

    /// For the log: nothing new to say.
    pub(super) fn reads_like(&self, other: &Self) -> bool {
        self.destination == other.destination
            && self.outcome.as_ref().err() == other.outcome.as_ref().err()
            && self.warnings == other.warnings
    }
}
