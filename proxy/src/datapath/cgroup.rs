//! cgroup v2: where its tree is mounted, where we are in it, cgroups of our own.
//!
//! Only the tree is needed, no controller: the same code serves machines where cgroup v2
//! is all there is, and those where it stands beside version 1.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use tokio::time::{Instant, sleep};

use super::Error as DatapathError;

/// The names of our cgroups begin with it, so that a later start recognises leftovers.
pub const NAME_PREFIX: &str = "transparent-proxy-";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "no cgroup v2 tree is mounted here: mount one with \
         `mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified`, \
         or start Linux with `systemd.unified_cgroup_hierarchy=1`"
    )]
    NotMounted,
    #[error("this process is in no cgroup v2 (no line `0::` in /proc/self/cgroup)")]
    NotInCgroup2,
    #[error("the cgroup {} of this process is outside of what is mounted at {}", .path.display(), .mount.display())]
    OutsideOfMount { path: PathBuf, mount: PathBuf },
    #[error("{}: {operation} failed", .path.display())]
    Io {
        path: PathBuf,
        operation: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the cgroup {} still has processes after {} ms", .path.display(), .waited.as_millis())]
    StillPopulated { path: PathBuf, waited: Duration },
}

impl Error {
    /// The cgroup takes no processes because it has controllers for its children.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::ResourceBusy)
    }

    /// The rights of this process do not suffice.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied
            || source.kind() == io::ErrorKind::ReadOnlyFilesystem)
    }
}

/// A mount of the cgroup v2 tree, or of a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub mount_point: PathBuf,
    /// Which directory of the tree is mounted; `/` for all of it.
    pub root: PathBuf,
}

impl Mount {
    /// Of this machine: unified, beside version 1, or in a place of its own.
    pub fn find() -> Result<Self, Error> {
        let path = Path::new("/proc/self/mountinfo");
        let mountinfo = fs::read_to_string(path).map_err(io_error(path, "reading"))?;
        choose(cgroup2_mounts(&mountinfo)).ok_or(Error::NotMounted)
    }

    /// The directory of the cgroup that this process is in.
    pub fn own_cgroup(&self) -> Result<PathBuf, Error> {
        let path = Path::new("/proc/self/cgroup");
        let memberships = fs::read_to_string(path).map_err(io_error(path, "reading"))?;
        self.locate(cgroup2_membership(&memberships).ok_or(Error::NotInCgroup2)?)
    }

    /// Whether this process is in `cgroup` or below it.
    pub fn holds_this_process(&self, cgroup: &Path) -> bool {
        match (self.own_cgroup(), fs::canonicalize(cgroup)) {
            (Ok(own), Ok(cgroup)) => own.starts_with(cgroup),
            _ => false,
        }
    }

    /// Where a path from /proc/PID/cgroup is in this mount.
    fn locate(&self, path: &Path) -> Result<PathBuf, Error> {
        let relative = path
            .strip_prefix(&self.root)
            .map_err(|_outside| Error::OutsideOfMount {
                path: path.to_owned(),
                mount: self.mount_point.clone(),
            })?;
        // Joining an empty path would add a slash.
        Ok(if relative == Path::new("") {
            self.mount_point.clone()
        } else {
            self.mount_point.join(relative)
        })
    }
}

/// The mounts of type cgroup2 in the text of /proc/PID/mountinfo, see `proc_pid_mountinfo(5)`.
fn cgroup2_mounts(mountinfo: &str) -> Vec<Mount> {
    let mount = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let (root, mount_point) = (fields.next()?, fields.next()?);
        (after.split(' ').next()? == "cgroup2").then(|| Mount {
            mount_point: unescape(mount_point),
            root: unescape(root),
        })
    };
    mountinfo.lines().filter_map(mount).collect()
}

/// The usual places first, since others may be bind mounts; then whole trees.
fn choose(mounts: Vec<Mount>) -> Option<Mount> {
    let rank = |mount: &Mount| match mount.mount_point.to_str() {
        Some("/sys/fs/cgroup") => 0,
        Some("/sys/fs/cgroup/unified") => 1,
        _ if mount.root == Path::new("/") => 2,
        _ => 3,
    };
    mounts.into_iter().min_by_key(rank)
}

/// The path of version 2 in the text of /proc/PID/cgroup.
fn cgroup2_membership(memberships: &str) -> Option<&Path> {
    memberships
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .map(Path::new)
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescape(field: &str) -> PathBuf {
    let bytes = field.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let octal = (bytes[i] == b'\\')
            .then(|| {
                field
                    .get(i + 1..i + 4)
                    .and_then(|digits| u8::from_str_radix(digits, 8).ok())
            })
            .flatten();
        plain.push(octal.unwrap_or(bytes[i]));
        i += if octal.is_some() { 4 } else { 1 };
    }
    PathBuf::from(OsStr::from_bytes(&plain))
}

/// The id that `bpf_get_current_cgroup_id` reports.
pub fn id(cgroup: &Path) -> Result<u64, Error> {
    fs::metadata(cgroup)
        .map(|metadata| metadata.ino())
        .map_err(io_error(cgroup, "looking it up"))
}

/// The directory, if it is one of cgroup version 2.
pub(super) fn open(path: &Path) -> Result<File, DatapathError> {
    let not_found = |source| DatapathError::CgroupNotFound {
        path: path.to_owned(),
        source,
    };
    let directory = File::open(path).map_err(not_found)?;
    if is_cgroup2(path) {
        Ok(directory)
    } else {
        Err(DatapathError::NotCgroup2 {
            path: path.to_owned(),
        })
    }
}

/// `cgroup` and the cgroups above it, as far up as they are mounted.
pub(super) fn with_ancestors(cgroup: &Path) -> Result<Vec<PathBuf>, DatapathError> {
    let path = fs::canonicalize(cgroup).map_err(|source| DatapathError::CgroupNotFound {
        path: cgroup.to_owned(),
        source,
    })?;
    Ok(path
        .ancestors()
        .take_while(|ancestor| is_cgroup2(ancestor))
        .map(Path::to_owned)
        .collect())
}

pub(super) fn is_cgroup2(path: &Path) -> bool {
    statfs(path).is_ok_and(|statistics| statistics.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

/// Whether this process is in `cgroup` or below it, by the lists of the processes there.
///
/// Unlike /proc/self/cgroup this needs to know neither where the tree is mounted nor what a
/// cgroup namespace hides. The lists show each process by its number in the namespace of the
/// reader, so another container's process of the same number is not taken for us.
pub fn holds_this_process(cgroup: &Path) -> bool {
    const MOST: usize = 20_000;
    let own = std::process::id().to_string();
    let mut left = vec![cgroup.to_owned()];
    for _ in 0..MOST {
        let Some(cgroup) = left.pop() else { return false };
        let listed = |text: String| text.lines().any(|line| line == own);
        if fs::read_to_string(cgroup.join("cgroup.procs")).is_ok_and(listed) {
            return true;
        }
        let entries = fs::read_dir(&cgroup).into_iter().flatten().filter_map(Result::ok);
        let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        left.extend(directories.map(|entry| entry.path()));
    }
    false
}

/// A cgroup of our own; removed when dropped if nobody is in it any more.
#[derive(Debug)]
pub struct OwnCgroup {
    path: PathBuf,
}

impl OwnCgroup {
    /// A new child of `parent`. The name is [`NAME_PREFIX`] and `suffix`.
    pub fn create(parent: &Path, suffix: &str) -> Result<Self, Error> {
        let path = parent.join(format!("{NAME_PREFIX}{suffix}"));
        fs::create_dir(&path).map_err(io_error(&path, "creating it"))?;
        Ok(Self { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves a process into it; children that it starts later follow.
    pub fn add(&self, process: u32) -> Result<(), Error> {
        add(&self.path, process)
    }

    /// Whether processes are in it or below.
    pub fn is_populated(&self) -> Result<bool, Error> {
        let events = self.path.join("cgroup.events");
        let text = fs::read_to_string(&events).map_err(io_error(&events, "reading"))?;
        Ok(text.lines().any(|line| line == "populated 1"))
    }

    /// Waits until the last process is gone, then removes it and all cgroups below.
    pub async fn remove(self, patience: Duration) -> Result<(), Error> {
        const BETWEEN_LOOKS: Duration = Duration::from_millis(5);
        let deadline = Instant::now() + patience;
        while self.is_populated()? {
            if Instant::now() >= deadline {
                return Err(Error::StillPopulated {
                    path: self.path.clone(),
                    waited: patience,
                });
            }
            sleep(BETWEEN_LOOKS).await;
        }
        remove_tree(&self.path).map_err(io_error(&self.path, "removing it"))
    }
}

impl Drop for OwnCgroup {
    fn drop(&mut self) {
        // With processes in it this fails, and it stays.
        let _ = remove_tree(&self.path);
    }
}

/// Moves a process into a cgroup.
pub fn add(cgroup: &Path, process: u32) -> Result<(), Error> {
    let list = cgroup.join("cgroup.procs");
    fs::write(&list, process.to_string()).map_err(io_error(cgroup, "moving a process into it"))
}

/// Directories alone can be removed from a cgroup tree, children first.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)?.filter_map(Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

fn io_error(path: &Path, operation: &'static str) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io {
        path,
        operation,
        source,
    }
}

#[cfg(test)]
mod tests;
