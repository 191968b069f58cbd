//! What the command line means once it was checked: plain values, complete, printable.

pub mod kubernetes;

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::StatusCode;
use ipnet::IpNet;

use crate::telemetry::logging;

/// Settings of the role `run`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Folders and files with destinations; never empty, every path exists.
    pub destinations: Vec<PathBuf>,
    /// Where the listeners of the destinations are bound, each on a port of its own.
    pub listen: IpAddr,
    pub virtual_ips: IpNet,
    pub scope: Scope,
    /// A hosts file to keep current, besides the private one of CMD.
    pub hosts_file: Option<PathBuf>,
    /// Where metrics and status are served.
    pub metrics: Option<SocketAddr>,
    pub logging: Logging,
    pub retry: Option<Retry>,
    /// PEM files with certificate authorities that are trusted besides the system's.
    pub additional_cas: Vec<PathBuf>,
    pub drain_timeout: Duration,
}

/// Whose connections are redirected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// CMD and what it starts, in a cgroup and a mount namespace of their own.
    Command(Command),
    /// The processes of a cgroup that exists already.
    Cgroup(PathBuf),
    /// Every process of this machine, or of this container if the cgroup tree ends there.
    Machine,
}

/// CMD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    pub program: OsString,
    pub arguments: Vec<OsString>,
    /// `--user`; without it, whoever called sudo, else nobody else.
    pub user: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logging {
    pub level: tracing::Level,
    pub format: logging::Format,
    /// One line per HTTP request.
    pub access: bool,
    /// Instead of standard error.
    pub file: Option<PathBuf>,
}

/// Repeats of HTTP requests that may already have run: only what the user asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Attempts after the first one.
    pub max_retries: u8,
    /// Responses that are repeated; empty repeats transport errors only.
    pub status_codes: Vec<StatusCode>,
}
