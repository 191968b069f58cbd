//! Keeps a snapshot current: file system events, and a re-read every minute for what they miss.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{info, warn};

use super::load::{self, Inputs, Load};
use super::{FileSource, Loaded, Problem, Snapshot, State};

/// Writers rarely pause longer within one change.
const QUIET: Duration = Duration::from_millis(150);
/// The longest that a change waits for quiet; changes are promised to be live within 2 s.
const MAX_DELAY: Duration = Duration::from_secs(1);
/// Network file systems tell nothing about changes by other machines.
const RE_READ: Duration = Duration::from_mins(1);
/// When the system has no watches left, reading often is what remains.
const RE_READ_WITHOUT_EVENTS: Duration = Duration::from_secs(1);

/// Loads once before it returns, so that the receiver starts with what the files say.
pub(super) fn watch(source: FileSource) -> watch::Receiver<Arc<Snapshot>> {
    start(Follower::new(source))
}

/// As on a system that has no watches left.
#[cfg(test)]
pub(super) fn watch_without_events(source: FileSource) -> watch::Receiver<Arc<Snapshot>> {
    start(Follower {
        watcher: None,
        ..Follower::new(source)
    })
}

fn start(mut follower: Follower) -> watch::Receiver<Arc<Snapshot>> {
    let first = Arc::new(follower.load(None));
    log_changes(&Snapshot::default(), &first);
    let (sender, receiver) = watch::channel(first);
    tokio::spawn(follow(follower, sender));
    receiver
}

async fn follow(mut follower: Follower, sender: watch::Sender<Arc<Snapshot>>) {
    loop {
        tokio::select! {
            () = follower.change() => {}
            () = sender.closed() => return,
        }
        let previous = sender.borrow().clone();
        let reload = tokio::task::spawn_blocking(move || {
            let snapshot = follower.load(Some(&previous));
            (follower, previous, snapshot)
        });
        // The task is neither aborted nor does it panic on any input.
        let Ok((again, previous, snapshot)) = reload.await else {
            warn!("destinations are no longer watched, because reading them failed unexpectedly");
            return;
        };
        follower = again;
        if *previous != snapshot {
            log_changes(&previous, &snapshot);
            sender.send_replace(Arc::new(snapshot));
        }
    }
}

/// Reads the source and keeps the watches in step with what was read.
struct Follower {
    source: FileSource,
    changed: Arc<Notify>,
    interest: Arc<Mutex<Interest>>,
    watcher: Option<RecommendedWatcher>,
    /// Watched directories by path, with the identity they had then.
    watched: BTreeMap<PathBuf, Identity>,
    complete: bool,
}

/// What events may be about; shared with the callback of the watcher.
#[derive(Default)]
struct Interest {
    folders: BTreeSet<PathBuf>,
    /// Inputs, what they link to, and all directories above.
    paths: HashSet<PathBuf>,
    /// Removed or renamed since the last look: a watch on it is gone, even if the path is back.
    removed: HashSet<PathBuf>,
}

/// Device and inode: a directory that was made anew needs a new watch.
type Identity = (u64, u64);

impl Follower {
    fn new(source: FileSource) -> Self {
        let changed = Arc::new(Notify::new());
        let interest = Arc::new(Mutex::new(Interest::default()));
        let watcher = watcher(changed.clone(), interest.clone());
        Self {
            source,
            changed,
            interest,
            watcher,
            watched: BTreeMap::new(),
            complete: false,
        }
    }

    /// Waits for something to have changed, and then for quiet.
    async fn change(&self) {
        let pause = if self.complete {
            RE_READ
        } else {
            RE_READ_WITHOUT_EVENTS
        };
        tokio::select! {
            () = self.changed.notified() => self.quiet().await,
            () = sleep_until(Instant::now() + pause) => {}
        }
    }

    async fn quiet(&self) {
        let deadline = Instant::now() + MAX_DELAY;
        loop {
            let quiet = deadline.min(Instant::now() + QUIET);
            let more = timeout_at(quiet, self.changed.notified()).await;
            if more.is_err() || Instant::now() >= deadline {
                return;
            }
        }
    }

    /// Loads until nothing new had to be watched: what happened before a watch was there is not lost.
    fn load(&mut self, previous: Option<&Snapshot>) -> Snapshot {
        const ENOUGH: usize = 5;
        let mut load = self.load_once(previous);
        for _ in 0..ENOUGH {
            if !self.watch_all(&load.inputs) {
                break;
            }
            load = self.load_once(previous);
        }
        load.snapshot
    }

    fn load_once(&self, previous: Option<&Snapshot>) -> Load {
        load::load(&self.source.paths, &self.source.environment, previous)
    }

    /// True if a directory is newly watched.
    fn watch_all(&mut self, inputs: &Inputs) -> bool {
        let inputs = absolute(inputs);
        let removed = self.set_interest(&inputs);
        let wanted = directories(&inputs);
        let Some(watcher) = &mut self.watcher else {
            return false;
        };
        self.watched.retain(|path, identity| {
            let same = self::identity(path) == Some(*identity) && !removed.contains(path);
            let keep = same && wanted.contains(path);
            if !keep {
                // Fails if the directory is gone, and with it the watch.
                watcher.unwatch(path).ok();
            }
            keep
        });
        self.complete = true;
        let before = self.watched.len();
        for path in wanted {
            let Some(identity) = identity(&path).filter(|_| !self.watched.contains_key(&path)) else {
                continue;
            };
            match watcher.watch(&path, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.watched.insert(path, identity)),
                Err(_) => self.complete = false,
            }
        }
        self.watched.len() > before
    }

    fn set_interest(&self, inputs: &Inputs) -> HashSet<PathBuf> {
        let all = inputs.files.iter().chain(&inputs.folders);
        let real = all.clone().filter_map(|path| fs::canonicalize(path).ok());
        let all: Vec<PathBuf> = all.cloned().chain(real).collect();
        let paths = all.iter().flat_map(|path| path.ancestors());
        let paths = paths.map(Path::to_owned).collect();
        let interest = Interest {
            folders: inputs.folders.clone(),
            paths,
            removed: HashSet::new(),
        };
        let mut shared = lock(&self.interest);
        std::mem::replace(&mut *shared, interest).removed
    }
}

fn lock(interest: &Mutex<Interest>) -> MutexGuard<'_, Interest> {
    interest.lock().unwrap_or_else(PoisonError::into_inner)
}

fn watcher(changed: Arc<Notify>, interest: Arc<Mutex<Interest>>) -> Option<RecommendedWatcher> {
    let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        // An error means that events were lost.
        if event.map_or(true, |event| lock(&interest).notes(&event)) {
            changed.notify_one();
        }
    });
    watcher
        .map_err(|error| warn!(%error, "no file system events; destinations are read every second instead"))
        .ok()
}

impl Interest {
    /// Whether something may have changed. Reading is no change, and neighbours of our files are not ours.
    fn notes(&mut self, event: &Event) -> bool {
        let changes = match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
            EventKind::Access(_) => false,
            _ => true,
        };
        if !changes {
            return false;
        }
        let gone = matches!(
            event.kind,
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))
        );
        if gone {
            let ours = event.paths.iter().filter(|path| self.paths.contains(*path));
            self.removed.extend(ours.cloned());
        }
        event.need_rescan() || event.paths.iter().any(|path| self.concerns(path))
    }

    /// Kubernetes publishes a new volume by moving its `..data` link, so such names always count.
    fn concerns(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default();
        let of_kubelet = name.as_encoded_bytes().starts_with(b"..");
        let in_folder = path.parent().is_some_and(|p| self.folders.contains(p));
        of_kubelet || in_folder || self.paths.contains(path)
    }
}

/// Events name absolute paths.
fn absolute(inputs: &Inputs) -> Inputs {
    let absolute = |paths: &BTreeSet<PathBuf>| {
        let absolute = |path: &PathBuf| std::path::absolute(path).ok();
        paths.iter().filter_map(absolute).collect()
    };
    Inputs {
        folders: absolute(&inputs.folders),
        files: absolute(&inputs.files),
    }
}

/// The directories whose events tell all about the inputs.
fn directories(inputs: &Inputs) -> BTreeSet<PathBuf> {
    let mut directories = BTreeSet::new();
    let folders = inputs.folders.iter();
    directories.extend(folders.clone().map(|folder| nearest_existing(folder)));
    for path in folders.chain(&inputs.files) {
        let real = fs::canonicalize(path).unwrap_or_default();
        let parents = [path.parent(), real.parent()];
        directories.extend(parents.into_iter().flatten().map(nearest_existing));
    }
    directories.retain(|path| path.is_absolute());
    directories
}

fn nearest_existing(path: &Path) -> PathBuf {
    let existing = path.ancestors().find(|path| path.is_dir());
    existing.unwrap_or(Path::new("/")).to_owned()
}

fn identity(path: &Path) -> Option<Identity> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Each problem and each warning once, when it appears.
fn log_changes(previous: &Snapshot, current: &Snapshot) {
    let before: Vec<&Problem> = previous.all_problems().collect();
    for problem in current.all_problems().filter(|p| !before.contains(p)) {
        warn!(place = %problem.place, destination = problem.destination, "{problem}");
    }
    for loaded in &current.destinations {
        let before = previous.destinations.iter().find(|p| p.name == loaded.name);
        log_change(before, loaded);
    }
    for gone in &previous.destinations {
        if !current.destinations.iter().any(|c| c.name == gone.name) {
            info!(destination = %gone.name, "destination removed");
        }
    }
}

fn log_change(before: Option<&Loaded>, now: &Loaded) {
    for (place, warning) in &now.warnings {
        let known = before.is_some_and(|b| b.warnings.iter().any(|(_, w)| w == warning));
        if !known {
            warn!(%place, destination = %now.name, "{place}: {}: {warning}", now.name);
        }
    }
    let newly = |state: &State| before.is_none_or(|before| before.state != *state);
    match &now.state {
        State::Ok(_) if newly(&now.state) => info!(destination = %now.name, "destination loaded"),
        State::Broken {
            last_good: Some(_), ..
        } if newly(&now.state) => {
            warn!(destination = %now.name, "destination keeps its last good version");
        }
        State::Ok(_) | State::Broken { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds until it is acted upon that files change all the time.
    async fn noticed_after(follower: &Follower) -> u64 {
        let begin = Instant::now();
        let writing = async {
            for _ in 0..100 {
                follower.changed.notify_one();
                sleep_until(Instant::now() + QUIET / 2).await;
            }
        };
        tokio::select! {
            () = follower.change() => begin.elapsed().as_secs(),
            () = writing => panic!("it waits for quiet as long as there is none"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_waits_for_quiet_but_a_second_at_most() {
        let follower = Follower::new(FileSource::new(Vec::new()));
        assert_eq!(noticed_after(&follower).await, MAX_DELAY.as_secs());
        follower.changed.notify_one();
        let begin = Instant::now();
        follower.change().await;
        // Timers have a granularity of a millisecond.
        assert!(begin.elapsed() < QUIET * 2, "{:?}", begin.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn without_events_files_are_read_every_second() {
        let follower = Follower {
            watcher: None,
            ..Follower::new(FileSource::new(Vec::new()))
        };
        let begin = Instant::now();
        follower.change().await;
        assert_eq!(begin.elapsed().as_secs(), RE_READ_WITHOUT_EVENTS.as_secs());
    }
}
