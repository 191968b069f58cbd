//! The log level in a file, for pods: whoever writes it there changes it without a restart.
//!
//! Beside the file lies a link to this program under a name of its own, so that
//! `kubectl exec POD -- /etc/logging/change-log-level debug` works in an image without a shell.

mod format;
mod watch;

pub use watch::follow;

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::logging::{Level, NoLevel};

/// Name of the link; whoever is called by it changes the level.
pub const COMMAND: &str = "change-log-level";

const FILE: &str = "logger-config.yaml";

/// Where both are unless somebody says otherwise.
const FOLDER: &str = "/etc/logging";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{} cannot be {action}", .path.display())]
    Io {
        path: PathBuf,
        action: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the file is longer than {} KiB", format::LONGEST >> 10)]
    TooLong,
    #[error("it is not YAML: line {line}: {message}")]
    Syntax { line: usize, message: String },
    #[error("it has no key `log` with a key `level` below it")]
    Missing,
    #[error(transparent)]
    Level(#[from] NoLevel),
}

/// Writes the file with the level that holds from the start on, and places the link to `program`.
pub fn place(folder: &Path, level: Level, program: &Path) -> Result<(), Error> {
    write(folder, level)?;
    let path = folder.join(COMMAND);
    replace(&path, |new| symlink(program, new))
}

/// Asks the process that follows the file for another level.
pub fn write(folder: &Path, level: Level) -> Result<(), Error> {
    replace(&folder.join(FILE), |new| std::fs::write(new, format::text(level)))
}

/// Whether a program that was called like this is to change the level, and in which folder.
pub fn called_as(name: &OsStr) -> Option<PathBuf> {
    let path = Path::new(name);
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    (path.file_name()? == COMMAND).then(|| folder.unwrap_or(Path::new(FOLDER)).to_owned())
}

/// In one step, so that nobody ever reads half a file.
fn replace(path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let made = make(&new).and_then(|()| std::fs::rename(&new, path));
    made.map_err(|source| {
        // It may not even exist.
        let _ = std::fs::remove_file(&new);
        Error::Io {
            path: path.to_owned(),
            action: "written",
            source,
        }
    })
}

#[cfg(test)]
mod tests;
