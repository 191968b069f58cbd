//! What a proxy leaves when it is killed, found by name and by the lock that nobody holds.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use super::state::State;
use super::{Error, NAME_PREFIX, cgroup};

/// A start takes milliseconds, unless it has to kill what a dead proxy left.
const START_DEADLINE: Duration = Duration::from_secs(15);

/// Only one proxy at a time looks for leftovers and makes its own things: between the
/// making and the locking they would look like leftovers to others.
#[derive(Debug)]
pub(super) struct Start {
    runtime: PathBuf,
    _lock: Flock<File>,
}

impl Start {
    pub(super) fn runtime(&self) -> &Path {
        &self.runtime
    }
}

pub(super) fn begin_start(runtime: &Path) -> Result<Start, Error> {
    let unusable = |source| Error::Runtime {
        path: runtime.to_owned(),
        source,
    };
    let deadline = tokio::time::Instant::now() + START_DEADLINE;
    loop {
        fs::create_dir_all(runtime).map_err(unusable)?;
        match try_lock(runtime) {
            // Another one may have removed the folder between its opening and its locking.
            Ok(Some(lock)) if is_still(&lock, runtime) => {
                return Ok(Start {
                    runtime: runtime.to_owned(),
                    _lock: lock,
                });
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unusable(error)),
        }
        if tokio::time::Instant::now() > deadline {
            return Err(Error::Busy(runtime.to_owned()));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn is_still(folder: &File, path: &Path) -> bool {
    let inode = |metadata: io::Result<fs::Metadata>| metadata.ok().map(|metadata| metadata.ino());
    inode(folder.metadata()) == inode(fs::metadata(path))
}

/// Removes the folder of all sandboxes with the last one, unless somebody starts just now.
fn remove_runtime(runtime: &Path) {
    if let Ok(Some(_lock)) = try_lock(runtime) {
        let _ = fs::remove_dir(runtime);
    }
}

/// Takes the lock of a file or folder unless somebody holds it.
pub(super) fn try_lock(path: &Path) -> io::Result<Option<Flock<File>>> {
    match Flock::lock(File::open(path)?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(error.into()),
    }
}

/// Removes the things of dead proxies. What cannot be removed does not stop the start.
pub(super) fn clear(start: &Start, places: &[PathBuf]) {
    for folder in named(start.runtime(), NAME_PREFIX) {
        if let Ok(Some(_lock)) = try_lock(&folder) {
            tracing::info!(folder = %folder.display(), "removing what a killed proxy left");
            remove(&folder);
        }
    }
    for cgroup in places.iter().flat_map(|place| named(place, cgroup::NAME_PREFIX)) {
        if let Ok(Some(_lock)) = try_lock(&cgroup) {
            tracing::info!(cgroup = %cgroup.display(), "removing the cgroup that a killed proxy left");
            remove_cgroup(&cgroup);
        }
    }
}

/// Removes a sandbox: its processes and cgroup first, the folder that tells of them last,
/// so that an interrupted removal is finished by the next one.
pub(super) fn remove(directory: &Path) {
    if let Ok(state) = State::load(directory) {
        remove_cgroup(&state.cgroup);
        for file in &state.created {
            remove_if_empty(file);
        }
    }
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, folder = %directory.display(), "the folder cannot be removed");
        }
        _ => {}
    }
    if let Some(runtime) = directory.parent() {
        remove_runtime(runtime);
    }
}

fn remove_cgroup(path: &Path) {
    if let Err(error) = cgroup::remove(path) {
        tracing::warn!(%error, "the next start will try again");
    }
}

fn remove_if_empty(file: &Path) {
    if fs::metadata(file).is_ok_and(|metadata| metadata.len() == 0) {
        let _ = fs::remove_file(file);
    }
}

fn named(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}
