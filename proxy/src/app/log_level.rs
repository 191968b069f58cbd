//! `change-log-level LEVEL`: this program under another name.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use crate::telemetry::level_file::{self, COMMAND};
use crate::telemetry::logging::Level;

/// Does the work and gives the exit code if that is the name that this program was called by.
pub fn called(arguments: &[OsString]) -> Option<ExitCode> {
    let (name, words) = arguments.split_first()?;
    let folder = level_file::called_as(name)?;
    Some(match change(&folder, words) {
        Ok(level) => {
            println!("Successfully changed log levels to {level}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{COMMAND}: {error:#}");
            ExitCode::FAILURE
        }
    })
}

fn change(folder: &Path, words: &[OsString]) -> anyhow::Result<Level> {
    let [word] = words else {
        anyhow::bail!("give one level; trace, debug, info, warn, error and fatal are accepted");
    };
    let word = word.to_string_lossy();
    let Ok(level) = word.parse() else {
        anyhow::bail!("{word:?} is no level; trace, debug, info, warn, error and fatal are accepted");
    };
    level_file::write(folder, level)?;
    Ok(level)
}
