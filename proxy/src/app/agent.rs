//! The role `agent`: one per node.

mod all_pods;
mod callers;
mod door;
mod pod_table;

use std::process::ExitCode;

use anyhow::bail;

use crate::cli;

pub fn run(_arguments: &cli::Agent) -> anyhow::Result<ExitCode> {
    bail!("under construction")
}
