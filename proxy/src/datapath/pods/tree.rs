//! All cgroups below a directory, kept current by events.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::WatchDescriptor;

use super::events::{Event, Events};
use super::uid::{PodUid, uid_of_name};

/// Containers may nest cgroups as they like; one pod must not keep us busy.
const MOST_PER_POD: usize = 1_000;
/// Outside of pods, which is much only where the root of the node's tree is the place.
const MOST_OUTSIDE: usize = 20_000;

#[derive(Debug)]
pub(super) struct Tree {
    place: PathBuf,
    directories: BTreeMap<PathBuf, Directory>,
    watched: HashMap<WatchDescriptor, PathBuf>,
    counts: HashMap<Option<PodUid>, usize>,
    /// It was walked, all of it is watched, and no event was lost since.
    current: bool,
    complete: bool,
}

#[derive(Debug)]
struct Directory {
    cgroup: u64,
    pod: Option<PodUid>,
    watch: Option<WatchDescriptor>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Updated {
    Unchanged,
    Changed,
    /// Events do not suffice, it has to be walked.
    Stale,
}

impl Tree {
    pub(super) fn new(place: &Path) -> Self {
        Self {
            place: place.to_owned(),
            directories: BTreeMap::new(),
            watched: HashMap::new(),
            counts: HashMap::new(),
            current: false,
            complete: true,
        }
    }

    /// Events tell of everything that changes.
    pub(super) fn is_current(&self) -> bool {
        self.current
    }

    /// Nothing is left out because there is too much of it, or because it cannot be read.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// All cgroups in which something of a pod may run.
    pub(super) fn pods(&self) -> impl Iterator<Item = (u64, &PodUid)> {
        let all = self.directories.values();
        all.filter_map(|directory| Some((directory.cgroup, directory.pod.as_ref()?)))
    }

    /// The one that the kubelet makes for each pod, above all others of it.
    pub(super) fn outermost(&self) -> impl Iterator<Item = (u64, &PodUid)> {
        let pod_above = |path: &Path| self.directories.get(path.parent()?)?.pod.as_ref();
        let all = self.directories.iter();
        all.filter(move |(path, _)| pod_above(path).is_none())
            .filter_map(|(_, directory)| Some((directory.cgroup, directory.pod.as_ref()?)))
    }

    /// Forgets everything and looks at all of it.
    pub(super) fn walk(&mut self, events: &Events) -> io::Result<()> {
        *self = Self::new(&self.place);
        // The only directory that must be there.
        fs::read_dir(&self.place)?;
        // What they tell of is seen anyway.
        drop(events.read());
        self.current = true;
        self.add(self.place.clone(), None, events);
        Ok(())
    }

    /// Does what the events since the last time say.
    pub(super) fn update(&mut self, events: &Events) -> Updated {
        let news = events.read();
        for event in &news {
            self.apply(event, events);
        }
        match (self.current, news.is_empty()) {
            (false, _) => Updated::Stale,
            (true, false) => Updated::Changed,
            (true, true) => Updated::Unchanged,
        }
    }

    fn apply(&mut self, event: &Event, events: &Events) {
        match event {
            Event::Made { parent, name } => {
                if let Some(parent) = self.watched.get(parent) {
                    let pod = self.directories.get(parent).and_then(|known| known.pod.clone());
                    let pod = pod.or_else(|| uid_of_name(name));
                    self.add(parent.join(name), pod, events);
                }
            }
            Event::Removed { parent, name } => {
                if let Some(parent) = self.watched.get(parent) {
                    self.remove(&parent.join(name));
                }
            }
            Event::Gone(watch) => {
                let path = self.watched.remove(watch);
                self.current &= path.as_ref() != Some(&self.place);
            }
            Event::Lost => self.current = false,
        }
    }

    /// Adds a directory and what is below, level by level: what the kubelet makes comes before
    /// what containers make.
    fn add(&mut self, path: PathBuf, pod: Option<PodUid>, events: &Events) {
        let mut queue = VecDeque::from([(path, pod)]);
        while let Some((path, pod)) = queue.pop_front() {
            for name in self.add_one(&path, pod.clone(), events) {
                let pod = pod.clone().or_else(|| uid_of_name(&name));
                queue.push_back((path.join(name), pod));
            }
        }
    }

    /// Adds one directory; gives the names of those in it, unless it was known already.
    fn add_one(&mut self, path: &Path, pod: Option<PodUid>, events: &Events) -> Vec<OsString> {
        // A directory has a link from its name, one from its `.`, one from each `..` below, so
        // without directories below it need not be read. Some file systems do not count.
        const LINKS_OF_A_LEAF: u64 = 2;
        if self.is_full(pod.as_ref()) {
            return Vec::new();
        }
        // First, so that nothing is made unnoticed after the look at it.
        let watch = self.watch(path, events);
        let Some(metadata) = self.there(fs::symlink_metadata(path)) else {
            return Vec::new();
        };
        match self.directories.get(path).map(|known| known.cgroup) {
            Some(known) if known == metadata.ino() => return Vec::new(),
            Some(_) => self.remove(path),
            None => {}
        }
        let directory = Directory {
            cgroup: metadata.ino(),
            pod,
            watch,
        };
        self.insert(path, directory);
        if metadata.nlink() == LINKS_OF_A_LEAF {
            return Vec::new();
        }
        self.names_in(path)
    }

    fn is_full(&mut self, pod: Option<&PodUid>) -> bool {
        let most = if pod.is_some() { MOST_PER_POD } else { MOST_OUTSIDE };
        let full = self.counts.get(&pod.cloned()).is_some_and(|count| *count >= most);
        self.complete &= !full;
        full
    }

    fn watch(&mut self, path: &Path, events: &Events) -> Option<WatchDescriptor> {
        let watched = events.watch(path);
        self.current &= matches!(watched, Ok(_) | Err(Errno::ENOENT));
        watched.ok()
    }

    fn names_in(&mut self, path: &Path) -> Vec<OsString> {
        let entries = self.there(fs::read_dir(path)).into_iter().flatten();
        let readable = entries.filter_map(io::Result::ok);
        let directories = readable.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        // More would not be taken.
        directories
            .map(|entry| entry.file_name())
            .take(MOST_OUTSIDE)
            .collect()
    }

    fn insert(&mut self, path: &Path, directory: Directory) {
        *self.counts.entry(directory.pod.clone()).or_default() += 1;
        if let Some(watch) = directory.watch {
            self.watched.insert(watch, path.to_owned());
        }
        self.directories.insert(path.to_owned(), directory);
    }

    fn remove(&mut self, path: &Path) {
        let below = self.directories.range(path.to_owned()..);
        let below = below.take_while(|(other, _)| other.starts_with(path));
        let gone: Vec<PathBuf> = below.map(|(other, _)| other.clone()).collect();
        for path in gone {
            if let Some(directory) = self.directories.remove(&path) {
                self.forget(&directory);
            }
        }
    }

    fn forget(&mut self, directory: &Directory) {
        if let Some(watch) = directory.watch {
            self.watched.remove(&watch);
        }
        if let Some(count) = self.counts.get_mut(&directory.pod) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&directory.pod);
            }
        }
    }

    /// cgroups go at any time; everything else is worth a remark.
    fn there<T>(&mut self, result: io::Result<T>) -> Option<T> {
        let vanished = |error: &io::Error| {
            error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
        };
        result.inspect_err(|error| self.complete &= vanished(error)).ok()
    }
}
