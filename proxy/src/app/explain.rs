//! The commands for a node: they ask the agent in the same pod.

use std::process::ExitCode;

use anyhow::bail;

use crate::cli;

pub fn explain(_arguments: &cli::Explain) -> anyhow::Result<ExitCode> {
    bail!("under construction")
}

pub fn connections(_arguments: &cli::Connections) -> anyhow::Result<ExitCode> {
    bail!("under construction")
}
