//! `transparent-proxy <role>`: reads the command line, starts the role, gives its exit code.
//! By another name it changes the log level of a pod, see [`app::log_level`].

use std::process::ExitCode;

use clap::Parser as _;
use transparent_proxy::app;
use transparent_proxy::cli::Cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if let Some(code) = app::log_level::called(&arguments) {
        return code;
    }
    match app::start(Cli::parse_from(arguments).role) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("transparent-proxy: {error:#}");
            ExitCode::FAILURE
        }
    }
}
