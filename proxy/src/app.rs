//! The roles: here, and only here, everything is put together.

pub mod agent;
pub mod check;
pub mod cleanup;
pub mod crds;
pub mod doctor;
pub mod explain;
pub mod get;
pub mod healthcheck;
mod hook;
mod in_cluster;
pub mod log_level;
pub mod manager;
mod memory;
mod parts;
pub mod run;
mod serving;

mod capabilities;

use std::process::ExitCode;

use anyhow::Context as _;

use crate::cli::{Role, WRONG_COMMAND_LINE};
use crate::datapath::self_test::probe_main;

/// Starts a role; gives its exit code.
pub fn start(role: Role) -> anyhow::Result<ExitCode> {
    match role {
        Role::Run(arguments) => {
            let working_directory = std::env::current_dir().context("the working directory is gone")?;
            match arguments.validate(&working_directory) {
                Ok(config) => run::run(&config),
                Err(invalid) => {
                    eprintln!(
                        "error: {invalid}\n\nFor more information, try 'transparent-proxy run --help'."
                    );
                    Ok(ExitCode::from(WRONG_COMMAND_LINE))
                }
            }
        }
        Role::Check(arguments) => check::check(&arguments.paths, arguments.format),
        Role::Doctor(arguments) => {
            capabilities::raise();
            doctor::doctor(&arguments)
        }
        Role::Agent(arguments) => {
            capabilities::raise();
            agent::run(&arguments)
        }
        Role::Manager(arguments) => manager::run(&arguments),
        Role::Healthcheck(arguments) => healthcheck::run(&arguments),
        Role::Cleanup(arguments) => cleanup::run(&arguments),
        Role::Crds => crds::print(),
        Role::Explain(arguments) => explain::explain(&arguments),
        Role::Connections(arguments) => explain::connections(&arguments),
        Role::Enter(arguments) => Ok(run::command::enter(&arguments.directory, &arguments.command)),
        Role::Watch(arguments) => {
            run::sandbox::watch(&arguments.directory)?;
            Ok(ExitCode::SUCCESS)
        }
        Role::Probe => Ok(probe_main()),
        Role::Get(arguments) => get::get(&arguments),
        Role::Sandbox(arguments) => run::sandbox_only(&arguments),
    }
}
