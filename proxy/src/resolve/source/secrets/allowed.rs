//! The annotation with the namespaces that may use a destination.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::api::labels::ALLOWED_NAMESPACES;
use crate::resolve::destination::Warning;

/// Stands for every namespace.
const ALL: &str = "*";

/// Whose Destination CRs may use a destination, by their namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AllowedNamespaces {
    All,
    Only(BTreeSet<String>),
}

impl AllowedNamespaces {
    pub fn allows(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(namespace),
        }
    }

    /// Without annotation everybody, with one that cannot be read nobody: it was meant to narrow.
    pub(super) fn of(annotations: Option<&BTreeMap<String, String>>) -> (Self, Option<Warning>) {
        let Some(value) = annotations.and_then(|all| all.get(ALLOWED_NAMESPACES)) else {
            return (Self::All, None);
        };
        match serde_json::from_str::<BTreeSet<String>>(value) {
            Ok(names) if names.contains(ALL) => (Self::All, None),
            Ok(names) => (Self::Only(names), None),
            Err(_) => (Self::Only(BTreeSet::new()), Some(malformed())),
        }
    }
}

fn malformed() -> Warning {
    Warning {
        property: ALLOWED_NAMESPACES.to_owned(),
        message:
            "is not a JSON array of namespaces, like [\"shop\"], so no namespace may use this destination"
                .to_owned(),
    }
}
