//! What a sandbox consists of, written down for those who start later: CMD's first steps,
//! the watcher, and the next start.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Limits;
use crate::app::run::command::Ids;

const STATE: &str = "state.json";
/// Written by `__enter` if CMD could not be started for a reason of ours.
const FAILURE: &str = "failure";

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::app::run) struct State {
    /// Process id of the proxy.
    pub(in crate::app::run) proxy: u32,
    pub(in crate::app::run) cgroup: PathBuf,
    pub(in crate::app::run) binds: Vec<Bind>,
    /// Files that exist only so that something can be mounted on them.
    pub(in crate::app::run) created: Vec<PathBuf>,
    pub(in crate::app::run) limits: Limits,
    /// Whom CMD runs as, if not as the proxy.
    pub(in crate::app::run) identity: Option<Ids>,
}

/// A bind mount in CMD's mount namespace.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::app::run) struct Bind {
    pub(in crate::app::run) source: PathBuf,
    pub(in crate::app::run) target: PathBuf,
}

impl State {
    pub(super) fn save(&self, directory: &Path) -> io::Result<()> {
        fs::write(directory.join(STATE), serde_json::to_vec(self)?)
    }

    pub(in crate::app::run) fn load(directory: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&fs::read(directory.join(STATE))?)?)
    }
}

/// Opened before the privileges are dropped, closed by the exec of CMD.
pub(in crate::app::run) fn failure_file(directory: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(directory.join(FAILURE))
}

pub(super) fn failure(directory: &Path) -> Option<String> {
    fs::read_to_string(directory.join(FAILURE))
        .ok()
        .filter(|text| !text.is_empty())
}
