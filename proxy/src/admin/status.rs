//! What the status page tells. Filled by whoever puts the process together; never holds a secret.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// The state of the process at one moment.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Status {
    pub role: String,
    pub version: String,
    /// Such as the cgroup of the hook, the result of the self test, or the time of the last reload.
    pub facts: Vec<Fact>,
    pub destinations: Vec<DestinationRow>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    pub name: String,
    pub value: String,
    /// False where an operator should look.
    pub ok: bool,
}

/// One destination, as in the table that `run` prints.
#[derive(Debug, Clone, Serialize)]
pub struct DestinationRow {
    pub name: String,
    /// This and the next three are missing where a destination cannot be served.
    pub virtual_ip: Option<String>,
    pub port: Option<u16>,
    /// `HTTP` or `TCP`
    pub r#type: Option<String>,
    pub target: Option<String>,
    /// What was ignored in its configuration, or why it does not work.
    pub warnings: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    Starting,
    Ready,
    Draining,
}

impl Phase {
    pub(super) fn of(ready: bool, draining: bool) -> Self {
        match (ready, draining) {
            (_, true) => Self::Draining,
            (true, false) => Self::Ready,
            (false, false) => Self::Starting,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

/// The JSON of `/status`.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    pub(super) phase: Phase,
    pub(super) pending: Vec<Cow<'static, str>>,
    pub(super) open_connections: usize,
    #[serde(flatten)]
    pub(super) status: &'a Status,
}
