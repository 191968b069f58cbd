//! The role `manager`: Destination resources become Services.

use std::process::ExitCode;

use anyhow::bail;

use crate::cli;

pub fn run(_arguments: &cli::InCluster) -> anyhow::Result<ExitCode> {
    bail!("under construction")
}
