//! One look at all cgroups below a directory.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::uid::{PodUid, uid_of_name};

/// Containers may nest cgroups as they like; one pod must not keep us busy.
const MOST_PER_POD: usize = 1_000;
/// Outside of pods, which is much only where the root of the tree is the place.
const MOST_OUTSIDE: usize = 20_000;

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Walked {
    pub(super) pods: HashMap<u64, PodUid>,
    /// Nothing was left out. What vanished meanwhile does not count.
    pub(super) complete: bool,
}

/// Walks the tree, level by level: what is made by the kubelet comes before what containers
/// make. Calls `watch` for each directory above containers, before it is read.
pub(super) fn walk(place: &Path, mut watch: impl FnMut(&Path)) -> io::Result<Walked> {
    let mut walk = Walk::new(place)?;
    while let Some(cgroup) = walk.queue.pop_front() {
        if cgroup.is_above_containers {
            watch(&cgroup.path);
        }
        walk.visit(&cgroup);
    }
    Ok(walk.walked)
}

struct Walk {
    walked: Walked,
    queue: VecDeque<Cgroup>,
    counts: HashMap<Option<PodUid>, usize>,
}

struct Cgroup {
    path: PathBuf,
    pod: Option<PodUid>,
    is_above_containers: bool,
}

impl Walk {
    fn new(place: &Path) -> io::Result<Self> {
        // The only directory that must be there.
        fs::read_dir(place)?;
        Ok(Self {
            walked: Walked {
                complete: true,
                ..Walked::default()
            },
            queue: VecDeque::from([Cgroup {
                path: place.to_owned(),
                pod: None,
                is_above_containers: true,
            }]),
            counts: HashMap::new(),
        })
    }

    fn visit(&mut self, cgroup: &Cgroup) {
        // A directory has a link from its name, one from its `.`, one from each `..` below,
        // so without directories below it need not be read. Some file systems do not count.
        const LINKS_OF_A_LEAF: u64 = 2;
        let Some(metadata) = self.there(fs::symlink_metadata(&cgroup.path)) else {
            return;
        };
        if let Some(pod) = &cgroup.pod {
            self.walked.pods.insert(metadata.ino(), pod.clone());
        }
        if metadata.nlink() == LINKS_OF_A_LEAF {
            return;
        }
        let Some(entries) = self.there(fs::read_dir(&cgroup.path)) else {
            return;
        };
        for entry in entries {
            let Some(entry) = self.there(entry) else { return };
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !self.enqueue(cgroup, &entry) {
                self.walked.complete = false;
                return;
            }
        }
    }

    /// False if there are too many.
    fn enqueue(&mut self, parent: &Cgroup, entry: &DirEntry) -> bool {
        let of_name = || uid_of_name(&entry.file_name());
        let pod = parent.pod.clone().or_else(of_name);
        let most = if pod.is_some() { MOST_PER_POD } else { MOST_OUTSIDE };
        let count = self.counts.entry(pod.clone()).or_default();
        *count += 1;
        if *count > most {
            return false;
        }
        self.queue.push_back(Cgroup {
            path: entry.path(),
            is_above_containers: parent.pod.is_none(),
            pod,
        });
        true
    }

    /// cgroups go at any time; everything else is worth a remark.
    fn there<T>(&mut self, result: io::Result<T>) -> Option<T> {
        let vanished = |error: &io::Error| {
            error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
        };
        result
            .inspect_err(|error| self.walked.complete &= vanished(error))
            .ok()
    }
}
