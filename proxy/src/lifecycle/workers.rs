//! Threads that connections live on, each with a runtime of its own.
//!
//! All that belongs to one connection stays on one thread: its socket is known to that
//! thread's epoll instance only, and no other thread is woken for it or steals its
//! task. `cargo xtask bench http` shows what that saves: short requests cost a tenth
//! less than under a runtime that shares its work among threads.

use std::cell::Cell;
use std::env;
use std::future::{Future, pending};
use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::runtime::{Builder, Handle};

thread_local! {
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

/// The number of the worker that this thread is; 0 on all other threads, too.
pub fn current() -> usize {
    CURRENT.get()
}

/// As many as there are processors for this process, unless `TOKIO_WORKER_THREADS`, the
/// variable that programs on tokio obey, says otherwise.
pub fn count() -> NonZero<usize> {
    let asked = env::var("TOKIO_WORKER_THREADS")
        .ok()
        .and_then(|count| count.parse().ok());
    asked
        .or_else(|| thread::available_parallelism().ok())
        .unwrap_or(NonZero::<usize>::MIN)
}

/// The threads for connections. They end with the process.
#[derive(Debug, Clone)]
pub struct Workers {
    workers: Arc<[Worker]>,
}

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    /// Connections that live here.
    busy: Arc<AtomicUsize>,
}

impl Workers {
    pub fn start(count: NonZero<usize>) -> io::Result<Self> {
        let workers: io::Result<Arc<[Worker]>> = (0..count.get()).map(Worker::start).collect();
        Ok(Self { workers: workers? })
    }

    /// Runs what `begin` gives on the worker with the fewest tasks, to the end. `begin` is
    /// called there, so that sockets can be registered with that worker's runtime.
    pub fn spawn<F>(&self, begin: impl FnOnce() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let idlest = self
            .workers
            .iter()
            .min_by_key(|worker| worker.busy.load(Ordering::Relaxed));
        let Some(worker) = idlest else { return };
        let counted = Counted::new(&worker.busy);
        worker.runtime.spawn(async move {
            let _counted = counted;
            begin().await;
        });
    }
}

impl Worker {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || {
                CURRENT.set(number);
                runtime.block_on(pending::<()>());
            })?;
        Ok(Self {
            runtime: handle,
            busy: Arc::default(),
        })
    }
}

struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(busy: &Arc<AtomicUsize>) -> Self {
        busy.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(busy))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn tasks_go_to_the_worker_with_the_fewest_and_stay_there() {
        let workers = Workers::start(NonZero::new(3).unwrap()).unwrap();
        let (seen, numbers) = mpsc::channel();
        for _ in 0..6 {
            let seen = seen.clone();
            workers.spawn(move || async move {
                let before = current();
                tokio::task::yield_now().await;
                seen.send((before, current())).unwrap();
                pending::<()>().await;
            });
        }
        let mut ran: Vec<_> = (0..6)
            .map(|_| numbers.recv_timeout(Duration::from_secs(30)).unwrap())
            .collect();
        ran.sort_unstable();
        assert_eq!(ran, [(0, 0), (0, 0), (1, 1), (1, 1), (2, 2), (2, 2)]);
    }

    #[test]
    fn other_threads_count_as_the_first_worker() {
        assert_eq!(current(), 0);
    }
}
