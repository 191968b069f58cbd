//! Who wants to know which destinations have changed.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

/// Bursts that a subscriber may be behind before it is told to look at everything.
const BURSTS: usize = 256;

/// What may be answered differently now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Destinations of these names: new, changed, refused, or gone.
    Names(BTreeSet<Arc<str>>),
    /// Anything: all Secrets have been listed, or there were too many changes to name them.
    All,
}

/// A subscription to changes.
pub struct Changes(broadcast::Receiver<Arc<Change>>);

impl Changes {
    /// All that has changed since it was asked last; `None` when the writer is gone.
    pub async fn next(&mut self) -> Option<Change> {
        let mut change = match self.0.recv().await {
            Ok(change) => Arc::unwrap_or_clone(change),
            Err(RecvError::Lagged(_)) => Change::All,
            Err(RecvError::Closed) => return None,
        };
        loop {
            match self.0.try_recv() {
                Ok(more) => change = change.with(&more),
                Err(TryRecvError::Lagged(_)) => change = Change::All,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return Some(change),
            }
        }
    }
}

impl Change {
    fn with(self, more: &Self) -> Self {
        match (self, more) {
            (Self::Names(mut names), Self::Names(more)) => {
                names.extend(more.iter().cloned());
                Self::Names(names)
            }
            (Self::All, _) | (_, Self::All) => Self::All,
        }
    }
}

/// Tells everybody; it does not matter if nobody listens.
pub(super) struct Announcer(broadcast::Sender<Arc<Change>>);

impl Announcer {
    pub(super) fn new() -> Self {
        Self(broadcast::Sender::new(BURSTS))
    }

    pub(super) fn subscribe(&self) -> Changes {
        Changes(self.0.subscribe())
    }

    pub(super) fn announce(&self, change: Change) {
        if change != Change::Names(BTreeSet::new()) {
            drop(self.0.send(Arc::new(change)));
        }
    }
}
