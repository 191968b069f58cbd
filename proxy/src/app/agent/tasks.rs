//! All that runs beside the connections. None of it may end: half an agent is worse than none,
//! which somebody restarts.

use std::future::Future;

use anyhow::anyhow;
use tokio::task::JoinSet;

#[derive(Default)]
pub(super) struct Tasks(JoinSet<()>);

impl Tasks {
    pub(super) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(task);
    }

    /// The same for what cannot end but by a panic.
    pub(super) fn spawn_endless<N: Send + 'static>(
        &mut self,
        task: impl Future<Output = N> + Send + 'static,
    ) {
        self.0.spawn(async move {
            task.await;
        });
    }

    /// Resolves when a task has panicked.
    pub(super) async fn broken(&mut self) -> anyhow::Error {
        loop {
            match self.0.join_next().await {
                Some(Ok(())) => {}
                Some(Err(error)) => return anyhow!("a part of the agent broke: {error}"),
                None => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_told_and_an_end_is_not() {
        let mut tasks = Tasks::default();
        tasks.spawn(async {});
        tasks.spawn_endless(std::future::pending::<()>());
        tasks.spawn(async { panic!("on purpose") });
        assert!(tasks.broken().await.to_string().contains("on purpose"));
    }
}
