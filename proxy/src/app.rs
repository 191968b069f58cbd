//! The roles: here, and only here, everything is put together.

pub mod doctor;
pub mod run;

use std::process::ExitCode;

use anyhow::Context as _;

use crate::cli::{Role, WRONG_COMMAND_LINE};

/// Starts a role; gives its exit code.
pub fn start(role: Role) -> anyhow::Result<ExitCode> {
    match role {
        Role::Run(arguments) => {
            let working_directory = std::env::current_dir().context("the working directory is gone")?;
            match arguments.validate(&working_directory) {
                Ok(config) => run::run(&config),
                Err(invalid) => {
                    eprintln!("error: {invalid}\n\nFor more information, try 'transparent-proxy run --help'.");
                    Ok(ExitCode::from(WRONG_COMMAND_LINE))
                }
            }
        }
        Role::Check(_) => anyhow::bail!("`check` is not part of this build"),
        Role::Doctor(arguments) => doctor::doctor(&arguments),
        Role::Enter(arguments) => Ok(run::command::enter(&arguments.directory, &arguments.command)),
        Role::Watch(arguments) => {
            run::sandbox::watch(&arguments.directory)?;
            Ok(ExitCode::SUCCESS)
        }
        Role::Probe(arguments) => Ok(probe(arguments.address)),
        Role::Sandbox(arguments) => run::sandbox_only(&arguments),
    }
}

fn probe(address: std::net::SocketAddr) -> ExitCode {
    const DEADLINE: std::time::Duration = std::time::Duration::from_secs(5);
    match std::net::TcpStream::connect_timeout(&address, DEADLINE) {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
