//! The role `cleanup`: removes what the manager made.

use std::process::ExitCode;

use anyhow::bail;

use crate::cli;

pub fn run(_arguments: &cli::InCluster) -> anyhow::Result<ExitCode> {
    bail!("under construction")
}
