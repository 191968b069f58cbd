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

pub(super) const NAME_PREFIX: &str = "transparent-proxy-run-";

/// Processes die at once, unless the kernel is busy writing a core or waits for a disk.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no cgroup of version 2 is mounted: `mount -t cgroup2 none /sys/fs/cgroup/unified` does it (on a machine without any cgroups: none /sys/fs/cgroup)")]
    NotMounted,
    #[error("/proc cannot be read: {0}")]
    Proc(#[source] io::Error),
    #[error("no cgroup can be made in {path}: {source}; is that file system mounted read-only?")]
    Create { path: PathBuf, source: io::Error },
    #[error("the cgroup {path} cannot be removed: {source}")]
    Remove { path: PathBuf, source: io::Error },
}

/// Where a cgroup for CMD may be made, best first: below our own, so that the limits of
/// the session or service still hold, else below the root of the tree.
pub(super) fn places() -> Result<Vec<PathBuf>, Error> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(Error::Proc)?;
    let own = fs::read_to_string("/proc/self/cgroup").map_err(Error::Proc)?;
    let mount = find_mount(&mounts).ok_or(Error::NotMounted)?;
    let own = own_folder(&mount, &own).filter(|path| path.is_dir());
    let mut places: Vec<PathBuf> = own.into_iter().collect();
    if !places.contains(&mount.point) {
        places.push(mount.point);
    }
    Ok(places)
}

#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// Which part of the tree is mounted.
    root: PathBuf,
    point: PathBuf,
}

/// The last mount of type cgroup2 lies on top; see proc_pid_mountinfo(5).
fn find_mount(mountinfo: &str) -> Option<Mount> {
    mountinfo.lines().rev().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        if after.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let mut fields = before.split(' ').skip(3);
        Some(Mount { root: fields.next()?.into(), point: fields.next()?.replace("\\040", " ").into() })
    })
}

/// The folder of the version 2 line of `/proc/self/cgroup`, as seen through the mount.
fn own_folder(mount: &Mount, cgroup: &str) -> Option<PathBuf> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    let below = Path::new(path).strip_prefix(&mount.root).ok()?;
    // `..` means that our cgroup lies outside of the namespace's part of the tree.
    let inside = !below.components().any(|part| part == std::path::Component::ParentDir);
    inside.then(|| mount.point.join(below))
}

/// Makes the cgroup in the first place that takes one, locked.
pub(super) fn create(places: &[PathBuf], name: &str) -> Result<(PathBuf, Flock<File>), Error> {
    let mut last = None;
    for place in places {
        let path = place.join(format!("transparent-proxy-{name}"));
        match create_at(&path) {
            Ok(lock) => return Ok((path, lock)),
            Err(source) => last = Some(Error::Create { path: place.clone(), source }),
        }
    }
    Err(last.unwrap_or(Error::NotMounted))
}

fn create_at(path: &Path) -> io::Result<Flock<File>> {
    fs::create_dir(path)?;
    let lock = usable(path).and_then(|()| leftovers::try_lock(path)).and_then(|lock| {
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
    Err(io::Error::new(io::ErrorKind::Unsupported, format!("a cgroup there is of type {}", kind.trim())))
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
                return Err(Error::Remove { path: path.to_owned(), source });
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
        for pid in fs::read_to_string(folder.join("cgroup.procs"))?.lines().filter_map(|pid| pid.parse().ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    Ok(())
}

/// CMD may have made cgroups of its own below.
fn remove_tree(path: &Path) -> io::Result<()> {
    tree(path)?.iter().rev().try_for_each(fs::remove_dir)
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

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &str = "31 23 0:28 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
    const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
        36 31 0:33 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    const NESTED: &str = "41 31 0:38 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup ro\n";
    const NONE: &str = "36 31 0:33 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";

    fn own(mountinfo: &str, cgroup: &str) -> Option<PathBuf> {
        own_folder(&find_mount(mountinfo).unwrap(), cgroup)
    }

    #[test]
    fn the_tree_is_found_on_unified_hybrid_and_nested_mounts() {
        assert_eq!(find_mount(UNIFIED).unwrap().point, Path::new("/sys/fs/cgroup"));
        assert_eq!(find_mount(HYBRID).unwrap().point, Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(find_mount(NESTED).unwrap().root, Path::new("/docker/abc"));
        assert_eq!(find_mount(NONE), None);
    }

    #[test]
    fn the_own_cgroup_is_seen_through_the_mount() {
        let session = "0::/user.slice/session-3.scope\n";
        assert_eq!(own(UNIFIED, session).unwrap(), Path::new("/sys/fs/cgroup/user.slice/session-3.scope"));
        let hybrid = "4:memory:/x\n0::/\n";
        assert_eq!(own(HYBRID, hybrid).unwrap(), Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(own(NESTED, "0::/docker/abc/app\n").unwrap(), Path::new("/sys/fs/cgroup/app"));
    }

    #[test]
    fn a_cgroup_outside_of_the_mounted_part_is_not_used() {
        assert_eq!(own(NESTED, "0::/elsewhere\n"), None);
        assert_eq!(own(UNIFIED, "0::/../../x\n"), None);
        assert_eq!(own(UNIFIED, "1:cpu:/\n"), None);
    }
}
