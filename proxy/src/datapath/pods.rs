//! Which pod a cgroup belongs to, and where the hook has to be for all pods of a node.
//!
//! # Expected flow
//! [`attach_point`] below the mount of the node's tree, then [`PodCgroups::new`] for what it
//! found, [`PodCgroups::follow`] in a task of its own, [`PodCgroups::outermost`] to tell the
//! hook who is who, and [`PodCgroups::find`] for a caller that the hook did not know.
//!
//! # Guarantees
//! The tree is only read. However many pods come and go and however many ask, that takes a
//! tenth of one processor at most.
//!
//! # Assumptions
//! The kubelet names the cgroups of pods after their UIDs, in one of the two ways of its
//! [cgroup drivers](https://kubernetes.io/docs/setup/production-environment/container-runtimes/#cgroup-drivers).
//! The ids of cgroups are not used again.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info, warn};

mod events;
mod search;
mod strangers;
mod tree;
mod uid;

pub use search::{AttachPoint, attach_point};
pub use uid::{PodUid, pod_uid_of};

use events::Events;
use strangers::Strangers;
use tree::{Tree, Updated};

/// Between two walks through the tree, where events do not tell enough.
const PAUSE: Duration = Duration::from_millis(150);
/// A pause is at least so many times longer than the work before.
const PAUSE_FACTOR: u32 = 10;
/// Events come in groups: a pod, its class, its first container.
const GROUP: Duration = Duration::from_millis(10);
/// Should never be needed.
const WALK_AGAIN: Duration = Duration::from_mins(1);
/// When the system has no watches left, walking often is what remains.
const WALK_AGAIN_WITHOUT_EVENTS: Duration = Duration::from_secs(1);
/// A container may be gone before its last connection is accepted.
const LINGER: Duration = Duration::from_mins(1);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "{} cannot be read: mount the node's cgroup v2 tree there, as a volume `hostPath` of `type: Directory` \
         (/sys/fs/cgroup, or /sys/fs/cgroup/unified where version 1 is mounted beside it)", .path.display()
    )]
    Missing {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{} is not of cgroup version 2, and has no directory `unified` that is: mount the node's cgroup v2 tree \
         there (/sys/fs/cgroup, or /sys/fs/cgroup/unified where version 1 is mounted beside it), or start Linux \
         with `systemd.unified_cgroup_hierarchy=1`", .path.display()
    )]
    NotCgroup2 { path: PathBuf },
    #[error(
        "no process is in the cgroup {} or below: it is not the node's tree. A volume `hostPath` without \
         `type: Directory` makes an empty cgroup where the path does not exist", .path.display()
    )]
    Empty { path: PathBuf },
    #[error(
        "the cgroups {} may all be the one of this node's pods: mount the right one instead of the whole tree",
        .paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    Ambiguous { paths: Vec<PathBuf> },
    #[error("the cgroups of pods at {} cannot be read", .path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// By cgroup id.
pub type PodsByCgroup = HashMap<u64, PodUid>;

/// The cgroups of all pods below one directory; clones share what they know.
#[derive(Debug, Clone)]
pub struct PodCgroups(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    place: PathBuf,
    /// Those of pods, of their containers, and all that these made below.
    known: watch::Sender<Arc<PodsByCgroup>>,
    /// Those of pods alone.
    outermost: watch::Sender<Arc<PodsByCgroup>>,
    strangers: Mutex<Strangers>,
    refresher: tokio::sync::Mutex<Refresher>,
    tree: Mutex<Tree>,
    events: Events,
    /// That the calling thread has used so far.
    processor_time: fn() -> Duration,
}

/// Whoever holds it brings the tree up to date; the others wait for the result.
#[derive(Debug)]
struct Refresher {
    not_before: Instant,
    /// When the last time began that succeeded, and whether everything was seen then.
    last: Option<(Instant, bool)>,
    /// Also those that are gone, and since when.
    seen: HashMap<u64, (PodUid, Option<Instant>)>,
}

/// How much is done to be up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effort {
    /// Events, if they suffice.
    Events,
    Walk,
}

impl PodCgroups {
    /// Knows nothing yet. `place` is the attach point, or any directory above the pods.
    pub fn new(place: &Path) -> Self {
        Self::with(place, Events::new(), processor_time)
    }

    fn with(place: &Path, events: Events, processor_time: fn() -> Duration) -> Self {
        Self(Arc::new(Shared {
            place: place.to_owned(),
            known: watch::Sender::default(),
            outermost: watch::Sender::default(),
            strangers: Mutex::default(),
            refresher: tokio::sync::Mutex::new(Refresher {
                not_before: Instant::now(),
                last: None,
                seen: HashMap::new(),
            }),
            tree: Mutex::new(Tree::new(place)),
            events,
            processor_time,
        }))
    }

    /// Walks the whole tree, when it is time for that again. The result also has cgroups that
    /// were there within the last minute.
    pub async fn scan(&self) -> Result<Arc<PodsByCgroup>, Error> {
        self.refresh(Effort::Walk).await?;
        Ok(self.0.known.borrow().clone())
    }

    /// The pod of a cgroup. One that is not known is looked for, which takes less than a
    /// millisecond where events tell what is new, and a fraction of a second where the tree
    /// has to be walked.
    ///
    /// `None` is final: it is no pod's, or was gone already.
    pub async fn find(&self, cgroup: u64) -> Option<PodUid> {
        let asked = Instant::now();
        if let Some(pod) = self.known(cgroup) {
            return Some(pod);
        }
        if self.strangers().contains(cgroup) {
            return None;
        }
        let mut refresher = self.0.refresher.lock().await;
        // What began after the question answers it.
        if refresher.last.is_none_or(|(began, _)| began <= asked)
            && let Err(error) = self.refresh_with(&mut refresher, Effort::Events).await
        {
            debug!(%error, cause = %cause(&error), cgroup, "a caller cannot be identified");
            return self.known(cgroup);
        }
        let found = self.known(cgroup);
        if found.is_none() && refresher.last.is_some_and(|(_, complete)| complete) {
            self.strangers().insert(cgroup);
        }
        found
    }

    /// The pod of a cgroup, if that is known without looking.
    pub fn known(&self, cgroup: u64) -> Option<PodUid> {
        self.0.known.borrow().get(&cgroup).cloned()
    }

    /// The outermost cgroup of each pod, which the kubelet makes before the first container.
    /// Everything else of the pod is below it. Tells whenever one is new or gone.
    pub fn outermost(&self) -> watch::Receiver<Arc<PodsByCgroup>> {
        self.0.outermost.subscribe()
    }

    /// Walks the tree at once, and notices from then on when a pod or a container comes or
    /// goes. Never ends; one task may do it.
    pub async fn follow(&self) {
        let bell = self.0.events.bell();
        let mut effort = Effort::Walk;
        let mut failing = false;
        loop {
            let outcome = self.refresh(effort).await;
            log_change(&outcome, &self.0.place, failing);
            failing = outcome.is_err();
            sleep_until(Instant::now() + GROUP).await;
            let pause = if self.0.tree().is_current() {
                WALK_AGAIN
            } else {
                WALK_AGAIN_WITHOUT_EVENTS
            };
            effort = match timeout(pause, bell.rung()).await {
                Ok(()) => Effort::Events,
                Err(_elapsed) => Effort::Walk,
            };
        }
    }

    async fn refresh(&self, effort: Effort) -> Result<(), Error> {
        let mut refresher = self.0.refresher.lock().await;
        self.refresh_with(&mut refresher, effort).await
    }

    async fn refresh_with(&self, refresher: &mut Refresher, effort: Effort) -> Result<(), Error> {
        sleep_until(refresher.not_before).await;
        let began = Instant::now();
        // If this future is dropped while it waits, the work goes on all the same.
        refresher.not_before = began + PAUSE;
        let shared = Arc::clone(&self.0);
        let refreshed = tokio::task::spawn_blocking(move || shared.refresh(effort)).await;
        let refreshed = refreshed.map_err(io::Error::other).flatten();
        let now = Instant::now();
        refresher.not_before = now + refreshed.as_ref().map_or(PAUSE, Refreshed::pause);
        let refreshed = refreshed.map_err(|source| Error::Read {
            path: self.0.place.clone(),
            source,
        })?;
        refresher.last = Some((began, refreshed.complete));
        if let Some(found) = refreshed.found {
            publish(&self.0.known, refresher.remember(found.all, now));
            publish(&self.0.outermost, found.outermost);
        }
        Ok(())
    }

    fn strangers(&self) -> MutexGuard<'_, Strangers> {
        self.0.strangers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn publish(place: &watch::Sender<Arc<PodsByCgroup>>, pods: PodsByCgroup) {
    place.send_if_modified(|known| {
        let changed = **known != pods;
        if changed {
            *known = Arc::new(pods);
        }
        changed
    });
}

struct Found {
    all: PodsByCgroup,
    outermost: PodsByCgroup,
}

struct Refreshed {
    /// Unless nothing has changed.
    found: Option<Found>,
    complete: bool,
    walked: bool,
    /// Of a processor.
    took: Duration,
}

impl Refreshed {
    fn pause(&self) -> Duration {
        let least = if self.walked { PAUSE } else { Duration::ZERO };
        least.max(self.took * PAUSE_FACTOR)
    }
}

impl Shared {
    fn refresh(&self, effort: Effort) -> io::Result<Refreshed> {
        let before = (self.processor_time)();
        let mut tree = self.tree();
        let updated = match effort {
            Effort::Events => tree.update(&self.events),
            Effort::Walk => Updated::Stale,
        };
        if updated == Updated::Stale {
            tree.walk(&self.events)?;
        }
        let found = || Found {
            all: cloned(tree.pods()),
            outermost: cloned(tree.outermost()),
        };
        Ok(Refreshed {
            found: (updated != Updated::Unchanged).then(found),
            complete: tree.is_complete(),
            walked: updated == Updated::Stale,
            took: (self.processor_time)().saturating_sub(before),
        })
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Refresher {
    /// What is there, and what was until a short time ago.
    fn remember(&mut self, pods: PodsByCgroup, now: Instant) -> PodsByCgroup {
        for (cgroup, (_, gone)) in &mut self.seen {
            if !pods.contains_key(cgroup) {
                gone.get_or_insert(now);
            }
        }
        let there = pods.into_iter().map(|(cgroup, pod)| (cgroup, (pod, None)));
        self.seen.extend(there);
        self.seen
            .retain(|_, (_, gone)| gone.is_none_or(|gone| now - gone < LINGER));
        let all = self.seen.iter();
        all.map(|(&cgroup, (pod, _))| (cgroup, pod.clone())).collect()
    }
}

fn cloned<'a>(pods: impl Iterator<Item = (u64, &'a PodUid)>) -> PodsByCgroup {
    pods.map(|(cgroup, pod)| (cgroup, pod.clone())).collect()
}

/// On a busy machine waiting takes much longer than working.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Into::into)
}

fn log_change(outcome: &Result<(), Error>, place: &Path, failing: bool) {
    match outcome {
        Ok(()) if failing => info!(cgroup = %place.display(), "the cgroups of pods can be read again"),
        Err(error) if !failing => {
            warn!(%error, cause = %cause(error), "new pods are unknown to the hook");
        }
        _ => {}
    }
}

fn cause(error: &Error) -> String {
    std::error::Error::source(error).map_or_else(String::new, ToString::to_string)
}

#[cfg(test)]
mod tests;
