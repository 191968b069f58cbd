//! How long an HTTP/2 connection of an application has been without a stream.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// The open streams of one connection.
pub(super) struct Streams(Mutex<Count>);

struct Count {
    open: usize,
    /// When the last one ended, or else the connection began.
    idle_since: Instant,
}

/// A stream, until its answer has ended.
pub(in crate::flow::http) struct OpenStream(Arc<Streams>);

impl Streams {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Count {
            open: 0,
            idle_since: Instant::now(),
        })))
    }

    pub(super) fn begin(self: &Arc<Self>) -> OpenStream {
        self.count().open += 1;
        OpenStream(Arc::clone(self))
    }

    /// Resolves when there has been none for so long.
    pub(super) async fn idle(&self, limit: Duration) {
        loop {
            let now = Instant::now();
            let ends = self.idle_since().unwrap_or(now) + limit;
            if ends <= now {
                return;
            }
            sleep_until(ends).await;
        }
    }

    fn idle_since(&self) -> Option<Instant> {
        let count = self.count();
        (count.open == 0).then_some(count.idle_since)
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut count = self.0.count();
        count.open -= 1;
        count.idle_since = Instant::now();
    }
}
