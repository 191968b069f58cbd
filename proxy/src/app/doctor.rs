//! The role `doctor`: whether this machine is fit, and what to change if not.

use std::process::ExitCode;

use crate::cli;

pub fn doctor(_arguments: &cli::Doctor) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`doctor` is not part of this build")
}
