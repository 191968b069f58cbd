//! The command `crds`.

use std::process::ExitCode;

use anyhow::bail;

pub fn print() -> anyhow::Result<ExitCode> {
    bail!("under construction")
}
