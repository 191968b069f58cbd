//! Destinations from labelled Kubernetes Secrets: the instance named [`INSTANCE`].
//!
//! Pure: whoever watches the API server tells the one [`Writer`], and any number of
//! [`Reader`]s look destinations up without waiting.
//!
//! *Guarantees*: a destination is made of one version of one Secret, so a key store and its
//! password always belong together; what does not change keeps its
//! [`Version`](super::super::destination::Version); a version that is invalid is refused, and
//! the one before it is not served any more; no value of a Secret is in any message.

mod allowed;
mod changes;
mod claim;
mod data_keys;
mod feed;
mod form;
mod parse;
mod snapshot;
mod store;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use super::super::destination::{Invalid, Warning};

pub use self::allowed::AllowedNamespaces;
pub use self::changes::{Change, Changes};
pub use self::claim::SecretName;
pub use self::feed::feed;
pub use self::snapshot::{Snapshot, needs_no_credential};
pub use self::store::{Reader, Report, Trouble, Writer, store};

/// What Destination CRs call this source.
pub const INSTANCE: &str = "secrets";

/// Who asks for what.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    pub destination: &'a str,
    /// Namespace of the Destination CR, not that of the caller.
    pub cr_namespace: &'a str,
}

/// Why a query has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// No Secret is this destination, or the one that is does not allow the namespace.
    #[error("no Secret is this destination for this namespace")]
    NotFound,
    #[error("{0}")]
    Invalid(Arc<Refused>),
    /// Not all Secrets have been listed yet, so it may still turn up, or an older one of that name.
    #[error("the Secrets have not been read yet")]
    NotLoaded,
}

/// A Secret that is no usable destination, and all that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub problems: Vec<Invalid>,
    /// They often explain the problems.
    pub warnings: Vec<Warning>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problems: Vec<String> = self.problems.iter().map(Invalid::to_string).collect();
        f.write_str(&problems.join("; "))
    }
}
