//! Tasks that nobody waits for, and that must not break unnoticed: half a process is worse than
//! none, which somebody restarts.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use tokio::sync::mpsc;

/// Starts tasks from wherever they begin. Clones tell the same [`Broken`].
#[derive(Debug, Clone)]
pub struct Supervisor(mpsc::UnboundedSender<String>);

/// Hears of tasks that panicked.
#[derive(Debug)]
pub struct Broken(mpsc::UnboundedReceiver<String>);

pub fn supervisor() -> (Supervisor, Broken) {
    let (tell, hear) = mpsc::unbounded_channel();
    (Supervisor(tell), Broken(hear))
}

impl Supervisor {
    /// It may end, but not by a panic.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let tell = self.0.clone();
        tokio::spawn(async move {
            // Nothing of it is looked at afterwards.
            if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
                // Nobody listens once the process ends.
                let _ = tell.send(message(&*panic));
            }
        });
    }
}

impl Broken {
    /// What a task said when it panicked. Never resolves if none does.
    pub async fn next(&mut self) -> String {
        match self.0.recv().await {
            Some(message) => message,
            None => std::future::pending().await,
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "it did not say why".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_told_and_an_end_is_not() {
        let (supervisor, mut broken) = supervisor();
        supervisor.spawn(async {});
        supervisor.spawn(std::future::pending());
        supervisor.clone().spawn(async { panic!("on {}", "purpose") });
        drop(supervisor);
        assert_eq!(broken.next().await, "on purpose");
    }
}
