//! The role `run`: destinations from files, for one command or for processes that run already.

pub mod command;
pub mod hosts;
pub mod sandbox;
pub mod signals;
pub mod table;
pub mod virtual_ip;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::{cli, config};

pub fn run(_config: &config::Run) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`run` is not part of this build")
}

/// Role `__sandbox`: the sandbox with fixed names and without any proxy, so that its
/// behaviour can be tested apart from the kernel programs.
pub fn sandbox_only(arguments: &cli::SandboxOnly) -> anyhow::Result<ExitCode> {
    let limits = sandbox::Limits::current()?;
    signals::block()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let mut signals = signals::Signals::new()?;
        let sandbox = sandbox::Sandbox::create(&sandbox::Options {
            user: arguments.user.as_deref(),
            limits,
            executable: Path::new(sandbox::THIS_PROGRAM),
        })?;
        let entries: Vec<hosts::Entry> = arguments
            .host
            .iter()
            .map(|(address, name)| hosts::Entry { address: *address, name: name.clone() })
            .collect();
        sandbox.hosts().update(&entries)?;
        let (program, rest) = arguments.command.split_first().context("clap demands a command")?;
        let code = sandbox.start(program, rest)?.wait(&mut signals).await?;
        sandbox.close();
        Ok(ExitCode::from(code))
    })
}
