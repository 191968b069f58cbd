//! Shutdown as "hold a clone to stay alive".
//!
//! Whoever must finish before the process may end holds a [`DrainWatch`]. The owner of the
//! [`Drain`] asks them to finish, waits until the last one is dropped, and cuts them off
//! at a deadline. A [`Drain::child`] does the same for a part, such as one destination:
//! it ends on its own or together with its parent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use smallvec::{SmallVec, smallvec};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// After the cut, how long the tasks get to notice it and close their sockets.
const CUT_GRACE: Duration = Duration::from_secs(1);

/// Asks the holders of its watches to finish. Clones are the same drain.
#[derive(Debug, Clone)]
pub struct Drain {
    signal: DrainSignal,
    /// Of this drain, then of those that it is a part of.
    trackers: SmallVec<[TaskTracker; 3]>,
}

/// Keeps the owner of the [`Drain`] waiting until the last clone is dropped.
#[derive(Debug, Clone)]
#[must_use = "dropping it says that the work is finished"]
pub struct DrainWatch {
    signal: DrainSignal,
    alive: SmallVec<[TaskTrackerToken; 3]>,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Everything finished by itself.
    Finished,
    /// The deadline came first; so many watches were still held then.
    Cut(usize),
}

/// Tells of the drain without keeping anybody waiting: for servers that answer to the very end.
#[derive(Debug, Clone)]
pub struct DrainSignal {
    /// The process as a whole leaves, so parts have no flag of their own: every answer asks.
    leaving: Arc<AtomicBool>,
    draining: CancellationToken,
    revoked: CancellationToken,
    cut: CancellationToken,
}

impl Drain {
    pub fn new() -> Self {
        Self {
            signal: DrainSignal {
                leaving: Arc::default(),
                draining: CancellationToken::new(),
                revoked: CancellationToken::new(),
                cut: CancellationToken::new(),
            },
            trackers: smallvec![TaskTracker::new()],
        }
    }

    /// A part that can be ended alone. Its watches also count as watches of `self`.
    #[must_use]
    pub fn child(&self) -> Self {
        self.watch().child()
    }

    pub fn watch(&self) -> DrainWatch {
        DrainWatch {
            signal: self.signal.clone(),
            alive: self.trackers.iter().map(TaskTracker::token).collect(),
        }
    }

    pub fn signal(&self) -> DrainSignal {
        self.signal.clone()
    }

    /// Says, for this drain and all that it has to do with, that it will be started: answers close their
    /// connections, so that nobody keeps one for a request that comes too late. Nothing else ends.
    pub fn leave(&self) {
        self.signal.leaving.store(true, Ordering::Relaxed);
    }

    /// Asks for an orderly end: nothing new is begun, what runs is finished.
    pub fn start(&self) {
        self.signal.draining.cancel();
    }

    /// Who is connected may not be any more: what has begun to be answered is finished, and streams,
    /// which have no such end, are reset.
    pub fn revoke(&self) {
        self.signal.draining.cancel();
        self.signal.revoked.cancel();
    }

    /// Asks for an end at once; connections are reset.
    pub fn cut(&self) {
        self.revoke();
        self.signal.cut.cancel();
    }

    pub fn is_draining(&self) -> bool {
        self.signal.draining.is_cancelled()
    }

    /// How many watches are held, those of its parts included.
    pub fn held(&self) -> usize {
        self.tracker().len()
    }

    fn tracker(&self) -> &TaskTracker {
        &self.trackers[0]
    }

    /// Starts the drain, and resolves when all watches are gone; at the deadline, cuts.
    pub async fn finish(&self, deadline: Duration) -> Drained {
        self.start();
        self.tracker().close();
        if tokio::time::timeout(deadline, self.done_or_cut()).await == Ok(true) {
            return Drained::Finished;
        }
        let held = self.held();
        self.cut();
        // Tasks that do not notice the cut end with the runtime.
        let _ = tokio::time::timeout(CUT_GRACE, self.tracker().wait()).await;
        Drained::Cut(held)
    }

    /// True when the last watch is gone, false when somebody cut before that.
    async fn done_or_cut(&self) -> bool {
        tokio::select! {
            biased;
            () = self.tracker().wait() => true,
            () = self.signal.cut() => false,
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

impl DrainSignal {
    /// Resolves when an orderly end is asked for.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Resolves when a stream is to end: with a revocation, and with a cut.
    pub async fn revoked(&self) {
        self.revoked.cancelled().await;
    }

    pub fn is_revoked(&self) -> bool {
        self.revoked.is_cancelled()
    }

    /// Resolves when the end is to be at once.
    pub async fn cut(&self) {
        self.cut.cancelled().await;
    }

    pub fn is_cut(&self) -> bool {
        self.cut.is_cancelled()
    }
}

impl DrainWatch {
    /// Whether a drain is to come, see [`Drain::leave`].
    pub fn is_leaving(&self) -> bool {
        self.signal.leaving.load(Ordering::Relaxed)
    }

    /// Resolves when an orderly end is asked for.
    pub async fn draining(&self) {
        self.signal.draining().await;
    }

    pub fn is_draining(&self) -> bool {
        self.signal.is_draining()
    }

    /// Resolves when a stream is to end: with a revocation, and with a cut.
    pub async fn revoked(&self) {
        self.signal.revoked().await;
    }

    pub fn is_revoked(&self) -> bool {
        self.signal.is_revoked()
    }

    /// Resolves when the end is to be at once.
    pub async fn cut(&self) {
        self.signal.cut().await;
    }

    pub fn is_cut(&self) -> bool {
        self.signal.is_cut()
    }

    /// A part of what this watch keeps alive, see [`Drain::child`].
    #[must_use]
    pub fn child(&self) -> Drain {
        let above = self.alive.iter().map(|token| token.task_tracker().clone());
        Drain {
            signal: DrainSignal {
                leaving: Arc::clone(&self.signal.leaving),
                draining: self.signal.draining.child_token(),
                revoked: self.signal.revoked.child_token(),
                cut: self.signal.cut.child_token(),
            },
            trackers: std::iter::once(TaskTracker::new()).chain(above).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn drain_ends_when_the_last_watch_is_dropped() {
        let drain = Drain::new();
        let watch = drain.watch();
        let second = watch.clone();
        tokio::spawn(async move {
            watch.draining().await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            drop((watch, second));
        });
        assert_eq!(drain.finish(Duration::from_secs(10)).await, Drained::Finished);
    }

    #[tokio::test(start_paused = true)]
    async fn drain_cuts_at_the_deadline() {
        let drain = Drain::new();
        let watch = drain.watch();
        let cut = tokio::spawn(async move {
            watch.cut().await;
            assert!(watch.is_draining());
        });
        let begin = tokio::time::Instant::now();
        assert_eq!(drain.finish(Duration::from_secs(10)).await, Drained::Cut(1));
        assert_eq!(begin.elapsed().as_secs(), 10);
        cut.await.unwrap();
    }

    #[tokio::test]
    async fn a_second_signal_cuts_a_running_drain() {
        let drain = Arc::new(Drain::new());
        let watch = drain.watch();
        let running = tokio::spawn({
            let drain = Arc::clone(&drain);
            async move { drain.finish(Duration::from_hours(1)).await }
        });
        watch.draining().await;
        drain.cut();
        drop(watch);
        running.await.unwrap();
    }

    #[tokio::test]
    async fn a_part_ends_alone_but_counts_for_the_whole() {
        let drain = Drain::new();
        let part = drain.child();
        let watch = part.watch();
        part.cut();
        assert!(watch.is_cut());
        assert!(!drain.is_draining());
        assert_eq!(drain.finish(Duration::ZERO).await, Drained::Cut(1));
        drop(watch);
        assert_eq!(drain.held(), 0);
    }

    #[tokio::test]
    async fn what_is_revoked_is_drained_and_what_is_cut_is_revoked() {
        let drain = Drain::new();
        let part = drain.child();
        let watch = part.watch();
        part.revoke();
        watch.revoked().await;
        assert!(watch.is_draining());
        assert!(!watch.is_cut());
        assert!(!drain.watch().is_revoked());
        drain.cut();
        drain.watch().revoked().await;
    }

    #[tokio::test]
    async fn the_whole_ends_its_parts() {
        let drain = Drain::new();
        let part = drain.child();
        let watch = part.watch();
        drain.start();
        assert!(watch.is_draining());
        assert!(!watch.is_cut());
    }
}
