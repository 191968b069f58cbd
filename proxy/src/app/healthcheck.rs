//! The role `healthcheck`: how the installation is.

use std::process::ExitCode;

use anyhow::bail;

use crate::cli;

pub fn run(_arguments: &cli::InCluster) -> anyhow::Result<ExitCode> {
    bail!("under construction")
}
