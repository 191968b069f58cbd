//! Other programs: finding them, running them, and root's rights only where needed.

use std::env;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::progress::tail;
use crate::workspace;

/// curl goes on with all its libraries.
const VERSION_WORDS: usize = 4;

pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace::root());
    command
}

/// `program` with root's rights: as it is for root, by sudo for everybody else.
pub(crate) fn as_root(program: impl AsRef<OsStr>) -> Command {
    if nix::unistd::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg("-E").arg("--").arg(program);
    command
}

pub(crate) fn can_be_root() -> bool {
    nix::unistd::geteuid().is_root() || find("sudo").is_some()
}

/// A program on the PATH, or where Debian keeps servers.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .map(|folder| folder.join(program))
        .find(|candidate| is_executable(candidate))
}

pub(crate) fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Standard output of a command that must succeed; its complaints otherwise.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().display().to_string();
    let output = command.output().with_context(|| format!("{program} starts"))?;
    if !output.status.success() {
        bail!(
            "{program}: {}\n{}",
            output.status,
            tail(&String::from_utf8_lossy(&output.stderr))
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What a program says about its version, on whichever stream it says it.
///
/// Status 1 is fine (wrk says its version as part of its usage); 127 is the
/// loader's, for a program that lacks a library.
pub(crate) fn version(program: &Path, arguments: &str) -> Option<String> {
    let output = Command::new(program).args(arguments.split(' ')).output().ok()?;
    output.status.code().filter(|code| *code <= 1)?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).replace(&program.display().to_string(), "");
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    Some(
        line.split_whitespace()
            .take(VERSION_WORDS)
            .collect::<Vec<_>>()
            .join(" "),
    )
}
