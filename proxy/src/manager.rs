//! Destination CRs become Services, and get the condition that says whether they work.
//!
//! Watches keep a picture of the cluster; whatever changes puts a *name* into a queue; a name is
//! [planned](plan) as a whole, and what the plan says is [written](writer) if this process leads.

mod custom_resource;
mod lease;
mod plan;
mod ports;
mod queue;
mod service;

use crate::api::condition::Verdict;
use crate::api::destination::Destination;

/// Which installation of the proxy in the cluster this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    pub namespace: String,
    /// Of the cluster's names.
    pub domain: String,
}

impl Installation {
    /// Of the Service in the installation namespace.
    fn name_of(&self, service: &str) -> String {
        format!("{service}.{}.svc.{}", self.namespace, self.domain)
    }
}

/// What is known of the destination that a CR names.
pub trait Check: Send + Sync {
    fn check(&self, cr: &Destination) -> Checked;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    Served(Served),
    Refused(Verdict),
    /// The source of destinations has not answered yet, or cannot at the moment.
    NotKnownYet,
}

/// What applications see of a CR that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    pub kind: Kind,
    /// Of its Services.
    pub port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Http,
    Tcp,
}
