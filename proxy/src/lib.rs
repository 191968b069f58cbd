//! A transparent proxy for Kubernetes and for a single machine.
//!
//! An application connects to the virtual IP of a *destination*; an eBPF program
//! on the cgroup connect hook redirects that connection here. The modules below
//! stand in the order in which a connection passes them; `ARCHITECTURE.md` has
//! the picture.

// What starts everything.
pub mod cli;

pub mod app;

pub mod config;

// The data path, in its order.
pub mod flow;

pub mod accept;

pub mod resolve;

pub mod credentials;

pub mod connect;

pub mod relay;

pub mod error;

// Beside the data path.
pub mod datapath;

pub mod api;

pub mod cluster;

pub mod framing;

pub mod manager;

pub mod admin;

pub mod health;

pub mod telemetry;

pub mod lifecycle;

pub mod secret;

#[cfg(test)]
mod testing;
