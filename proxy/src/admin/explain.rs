//! Why connections to a Destination resource are or are not redirected, let in, and served.
//!
//! An agent gives a [`Report`]: what it knows, without an opinion. What that means is worked out
//! from the report alone, see [`Report::findings`], so that every case can be tested.

mod findings;
mod refused;
mod speed;
mod text;

pub use findings::{Finding, State};

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::probes::Hook;
use crate::api::destination::Scope;

/// What an agent knows of one Destination resource. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub namespace: String,
    pub name: String,
    pub agent: Agent,
    /// None where this agent knows of no such resource.
    pub resource: Option<Resource>,
    /// Other namespaces with a Destination resource of this name.
    pub same_name_in: Vec<String>,
    /// What the manager made for it: one, or one per tenant.
    pub services: Vec<Service>,
    pub destination: Destination,
    /// Pods on this node that may connect, as far as this agent knows.
    pub callers: Vec<Caller>,
    /// The newest first.
    pub refusals: Vec<Refusal>,
    pub counters: Counters,
    /// None where nothing is served.
    pub limits: Option<Limits>,
    pub times: Times,
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Agent {
    pub node: String,
    pub pod: String,
    /// Serves what arrives by the Services, from all nodes.
    pub fallback: bool,
    pub hook: Hook,
    /// Of the hook; none before the first one, or where the hook is off.
    pub self_test: Option<SelfTest>,
    pub api_server: ApiServer,
    /// What namespaces must be labelled with whose resources count; none where all do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_label: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SelfTest {
    pub seconds_ago: u64,
    /// Why its connection was not redirected.
    pub error: Option<String>,
}

/// How current this agent's knowledge is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiServer {
    /// Everything was listed once; before, an agent that was restarted knows what it had stored.
    pub listed: bool,
    /// Since anything was heard, on the watch that has been silent for longest.
    pub silent_seconds: u64,
    /// The last failure, if it goes on.
    pub problem: Option<String>,
}

/// The Destination resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    /// `spec.destinationRef.name`
    pub destination: String,
    /// The one in force, also where the resource says none.
    pub scope: Scope,
    /// Why it is not understood; nothing else of it is known then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
}

/// A generated Service, and what this agent made of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    pub name: String,
    /// Virtual IPs.
    pub addresses: Vec<IpAddr>,
    pub port: u16,
    pub target_port: u16,
    /// `http` or `tcp`
    pub protocol: String,
    pub listener: Listener,
    /// What the hook looks up; one per address, none where it is off.
    pub kernel: Vec<KernelEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Listener {
    Open,
    Failed { reason: String },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KernelEntry {
    pub virtual_address: SocketAddr,
    /// Where connections are sent; none where the kernel does not know the address.
    pub redirected_to: Option<SocketAddr>,
    /// The number of the only namespace that is let through; 0 for everybody.
    pub namespace_number: u32,
}

/// What is behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum Destination {
    Found {
        /// As in the table of `run`: target and authentication.
        target: String,
        /// Such as `the Secret tp/my-dest`.
        source: String,
        /// What of its configuration is ignored.
        warnings: Vec<String>,
    },
    /// Requests say which destination they mean.
    Gateway,
    NotFound {
        /// Where was looked, such as `Secrets with the label … in the namespaces tp, shop`.
        searched: String,
    },
    Invalid {
        source: String,
        problems: Vec<String>,
    },
    /// The sources have not been read yet.
    NotLoaded,
    /// The resource wants what this version cannot do.
    NotSupported {
        what: String,
    },
    /// There is no resource that would name one.
    Unknown,
}

/// A pod on this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Caller {
    pub namespace: String,
    pub pod: String,
    /// The kernel knows its cgroups, and so its namespace. Otherwise the proxy looks when the
    /// connection has come.
    pub known_to_kernel: bool,
}

/// Somebody who was not let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    pub seconds_ago: u64,
    /// `<namespace>/<pod>`, or in words.
    pub who: String,
    pub reason: Reason,
    /// How often, if more than one in a row were alike.
    pub times: u64,
    /// At connect(2), before there was a connection; otherwise it was reset.
    pub at_connect: bool,
}

/// As in metrics and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    OtherNamespace,
    NodeProcess,
    UnknownPod,
    SharedAddress,
    UnknownAddress,
    Port,
    Udp,
    PerSource,
    Total,
    TargetPortOfTwo,
}

/// Of all destinations of one plane together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    pub open: u64,
    pub at_most: Option<u64>,
}

/// How long the steps took that wait for somebody else; none where they were not taken yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Times {
    pub caller: Option<Took>,
    pub credentials: Option<Took>,
    pub connect: Option<Took>,
    pub answer: Option<Took>,
}

/// Since this agent has started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Took {
    pub count: u64,
    pub average_milliseconds: u64,
    pub longest_milliseconds: u64,
}

/// Since this agent has started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    pub connections: u64,
    pub open_connections: u64,
    pub requests: u64,
    /// Requests or connections that the proxy answered or ended with an error of its own.
    pub errors: u64,
    pub refused: u64,
    /// How often new connections had to wait until others ended.
    pub waits: u64,
}

#[cfg(test)]
mod tests;
