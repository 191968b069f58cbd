//! Logs and metrics.

pub mod connections;
pub mod logging;
pub mod process;
pub mod registry;
