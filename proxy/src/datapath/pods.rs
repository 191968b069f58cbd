//! Which pod a cgroup belongs to, and where the hook has to be for all pods of a node.
//!
//! # Expected flow
//! [`attach_point`] below the mount of the node's tree, then [`PodCgroups::new`] for what it
//! found, [`PodCgroups::follow`] in a task of its own, [`PodCgroups::changes`] to tell the
//! hook who is who, and [`PodCgroups::find`] for a caller that the hook did not know.
//!
//! # Guarantees
//! The tree is only read. However many pods come and go and however many ask, walking it
//! takes a tenth of one processor at most.
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

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

mod events;
mod search;
mod strangers;
mod uid;
mod walk;

pub use search::{AttachPoint, attach_point};
pub use uid::{PodUid, pod_uid_of};

use events::Events;
use strangers::Strangers;
use walk::{Walked, walk};

/// Between two walks; so whoever misses a cgroup waits no longer than that.
const PAUSE: Duration = Duration::from_millis(150);
/// A walk that took long is followed by a pause this many times longer.
const PAUSE_FACTOR: u32 = 10;
/// For events that were lost.
const RE_SCAN: Duration = Duration::from_secs(30);
/// When the system has no watches left, walking often is what remains.
const RE_SCAN_WITHOUT_EVENTS: Duration = Duration::from_secs(1);
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
    Scan {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// By cgroup id, that of the pod, those of its containers, and all that these made below.
pub type PodsByCgroup = HashMap<u64, PodUid>;

/// The cgroups of all pods below one directory; clones share what they know.
#[derive(Debug, Clone)]
pub struct PodCgroups(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    place: PathBuf,
    known: watch::Sender<Arc<PodsByCgroup>>,
    strangers: Mutex<Strangers>,
    scanner: tokio::sync::Mutex<Scanner>,
    events: Events,
}

/// Whoever holds it walks the tree; the others wait for the result.
#[derive(Debug)]
struct Scanner {
    not_before: Instant,
    /// When the last walk that succeeded began, and whether it saw everything.
    last: Option<(Instant, bool)>,
    seen: HashMap<u64, (PodUid, Instant)>,
}

impl PodCgroups {
    /// Knows nothing yet. `place` is the attach point, or any directory above the pods.
    pub fn new(place: &Path) -> Self {
        Self::with_events(place, Events::new())
    }

    fn with_events(place: &Path, events: Events) -> Self {
        Self(Arc::new(Shared {
            place: place.to_owned(),
            known: watch::Sender::default(),
            strangers: Mutex::default(),
            scanner: tokio::sync::Mutex::new(Scanner {
                not_before: Instant::now(),
                last: None,
                seen: HashMap::new(),
            }),
            events,
        }))
    }

    /// Walks the tree, when it is time for that again. The result also has cgroups that
    /// were there within the last minute.
    pub async fn scan(&self) -> Result<Arc<PodsByCgroup>, Error> {
        let mut scanner = self.0.scanner.lock().await;
        self.scan_with(&mut scanner).await?;
        Ok(self.0.known.borrow().clone())
    }

    /// The pod of a cgroup. One that is not known is looked for, which takes some
    /// milliseconds, or a fraction of a second if the tree was walked just before.
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
        let mut scanner = self.0.scanner.lock().await;
        // A walk that began after the question answers it.
        if scanner.last.is_none_or(|(began, _)| began <= asked)
            && let Err(error) = self.scan_with(&mut scanner).await
        {
            warn!(%error, cause = %cause(&error), cgroup, "a caller cannot be identified");
            return self.known(cgroup);
        }
        let found = self.known(cgroup);
        if found.is_none() && scanner.last.is_some_and(|(_, complete)| complete) {
            self.strangers().insert(cgroup);
        }
        found
    }

    /// The pod of a cgroup, if that is known without looking.
    pub fn known(&self, cgroup: u64) -> Option<PodUid> {
        self.0.known.borrow().get(&cgroup).cloned()
    }

    /// Tells of all cgroups whenever one is new or gone.
    pub fn changes(&self) -> watch::Receiver<Arc<PodsByCgroup>> {
        self.0.known.subscribe()
    }

    /// Walks the tree at once, and again whenever a pod or a container comes or goes. Never
    /// ends; one task may do it.
    pub async fn follow(&self) {
        let mut events = self.0.events.queue();
        let mut failing = false;
        loop {
            match self.scan().await {
                Ok(_) if failing => {
                    failing = false;
                    info!(cgroup = %self.0.place.display(), "the cgroups of pods can be read again");
                }
                Ok(_) => {}
                Err(error) if !failing => {
                    failing = true;
                    warn!(%error, cause = %cause(&error), "new pods are unknown to the hook");
                }
                Err(_) => {}
            }
            let pause = if self.0.events.are_complete() && !failing {
                RE_SCAN
            } else {
                RE_SCAN_WITHOUT_EVENTS
            };
            let _elapsed = tokio::time::timeout(pause, events.next()).await;
        }
    }

    async fn scan_with(&self, scanner: &mut Scanner) -> Result<(), Error> {
        sleep_until(scanner.not_before).await;
        let began = Instant::now();
        // If this future is dropped while it waits, the walk goes on all the same.
        scanner.not_before = began + PAUSE;
        let shared = Arc::clone(&self.0);
        let walked = tokio::task::spawn_blocking(move || {
            let mut all_watched = true;
            let walked = walk(&shared.place, |directory| {
                all_watched &= shared.events.watch(directory);
            });
            shared.events.set_complete(all_watched);
            walked
        });
        let walked = walked.await.map_err(io::Error::other).flatten();
        let ended = Instant::now();
        scanner.not_before = ended + PAUSE.max((ended - began) * PAUSE_FACTOR);
        let walked = walked.map_err(|source| Error::Scan {
            path: self.0.place.clone(),
            source,
        })?;
        scanner.last = Some((began, walked.complete));
        self.publish(scanner.remember(walked, ended));
        Ok(())
    }

    fn publish(&self, pods: PodsByCgroup) {
        self.0.known.send_if_modified(|known| {
            let changed = **known != pods;
            if changed {
                *known = Arc::new(pods);
            }
            changed
        });
    }

    fn strangers(&self) -> MutexGuard<'_, Strangers> {
        self.0.strangers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scanner {
    fn remember(&mut self, walked: Walked, now: Instant) -> PodsByCgroup {
        let seen = walked.pods.into_iter();
        self.seen.extend(seen.map(|(cgroup, pod)| (cgroup, (pod, now))));
        self.seen.retain(|_, (_, last_seen)| now - *last_seen < LINGER);
        let all = self.seen.iter();
        all.map(|(&cgroup, (pod, _))| (cgroup, pod.clone())).collect()
    }
}

fn cause(error: &Error) -> String {
    std::error::Error::source(error).map_or_else(String::new, ToString::to_string)
}

#[cfg(test)]
mod tests;
