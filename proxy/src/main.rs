//! `transparent-proxy <role>`: reads the command line, starts the role, gives its exit code.

use std::process::ExitCode;

use clap::Parser as _;
use transparent_proxy::app;
use transparent_proxy::cli::Cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match app::start(Cli::parse().role) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("transparent-proxy: {error:#}");
            ExitCode::FAILURE
        }
    }
}
