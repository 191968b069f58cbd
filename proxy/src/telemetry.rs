//! Logs and metrics.

pub mod connections;
pub mod durations;
pub mod level_file;
pub mod logging;
pub mod process;
pub mod registry;
