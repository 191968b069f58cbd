//! For whom an installation is.

use serde::{Deserialize, Serialize};

/// Whether tenants are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TenantMode {
    #[default]
    Dedicated,
    Shared,
}
