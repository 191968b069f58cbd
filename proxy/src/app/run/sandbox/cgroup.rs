//! The cgroup of CMD: where it can be, and how it ends.
//!
//! No controller is needed or enabled: the hook only asks which cgroup a socket is from.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::Flock;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::leftovers;
use crate::datapath::cgroup::{self, Error as TreeError, Mount, remove_tree};

pub(super) const NAME_PREFIX: &str = "transparent-proxy-run-";

/// Processes die at once, unless the kernel is busy writing a core or waits for a disk.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error("no cgroup can be made in {path}: {source}; is that file system mounted read-only?")]
    Create { path: PathBuf, source: io::Error },
    #[error("the cgroup {path} cannot be removed: {source}")]
    Remove { path: PathBuf, source: io::Error },
}

/// Where a cgroup for CMD may be made, best first: below our own, so that the limits of
/// the session or service still hold, else below the root of the tree.
pub(super) fn places() -> Result<Vec<PathBuf>, Error> {
    let mount = Mount::find()?;
    // A cgroup outside of what is mounted here is no reason to give up.
    let mut places: Vec<PathBuf> = mount
        .own_cgroup()
        .into_iter()
        .filter(|path| path.is_dir())
        .collect();
    if !places.contains(&mount.mount_point) {
        places.push(mount.mount_point);
    }
    Ok(places)
}

/// Makes the cgroup in the first place that takes one, locked.
pub(super) fn create(places: &[PathBuf], name: &str) -> Result<(PathBuf, Flock<File>), Error> {
    let mut last = None;
    for place in places {
        let path = place.join(format!("{}{name}", cgroup::NAME_PREFIX));
        match create_at(&path) {
            Ok(lock) => return Ok((path, lock)),
            Err(source) => {
                last = Some(Error::Create {
                    path: place.clone(),
                    source,
                });
            }
        }
    }
    Err(last.unwrap_or(Error::Tree(TreeError::NotMounted)))
}

fn create_at(path: &Path) -> io::Result<Flock<File>> {
    fs::create_dir(path)?;
    let lock = usable(path)
        .and_then(|()| leftovers::try_lock(path))
        .and_then(|lock| {
            lock.ok_or_else(|| io::Error::new(io::ErrorKind::ResourceBusy, "somebody else locked it"))
        });
    lock.inspect_err(|_| {
        let _ = fs::remove_dir(path);
    })
}

/// Below a threaded cgroup a new one takes no processes; see "Threads" in the kernel's
/// Documentation/admin-guide/cgroup-v2.rst.
fn usable(path: &Path) -> io::Result<()> {
    let kind = fs::read_to_string(path.join("cgroup.type"))?;
    if kind.trim() == "domain" {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        format!("a cgroup there is of type {}", kind.trim()),
    ))
}

/// Kills everything in a cgroup and below, and removes them. Fine if there is none.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    let deadline = tokio::time::Instant::now() + KILL_DEADLINE;
    loop {
        let result = kill_all(path).and_then(|()| remove_tree(path));
        match result {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) if tokio::time::Instant::now() > deadline => {
                return Err(Error::Remove {
                    path: path.to_owned(),
                    source,
                });
            }
            // Busy until the last process is gone.
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

fn kill_all(path: &Path) -> io::Result<()> {
    let kill_file = path.join("cgroup.kill");
    if kill_file.exists() {
        return fs::write(kill_file, "1");
    }
    // Before Linux 5.14: one by one, again and again, so that forks do not get away.
    for folder in tree(path)? {
        for pid in fs::read_to_string(folder.join("cgroup.procs"))?
            .lines()
            .filter_map(|pid| pid.parse().ok())
        {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    Ok(())
}

/// The folder and all below, parents first.
fn tree(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![path.to_owned()];
    let mut next = 0;
    while let Some(folder) = found.get(next) {
        let below: Vec<PathBuf> = fs::read_dir(folder)?
            .filter_map(Result::ok)
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect();
        found.extend(below);
        next += 1;
    }
    Ok(found)
}
