//! All that runs beside the connections. None of it may break: half an agent is worse than none,
//! which somebody restarts.

use std::future::Future;

use anyhow::anyhow;

use crate::lifecycle::supervisor::{Broken, Supervisor, supervisor};

pub(super) struct Tasks {
    supervisor: Supervisor,
    broken: Broken,
}

impl Default for Tasks {
    fn default() -> Self {
        let (supervisor, broken) = supervisor();
        Self { supervisor, broken }
    }
}

impl Tasks {
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.supervisor.spawn(task);
    }

    /// The same for what cannot end but by a panic.
    pub(super) fn spawn_endless<N: Send + 'static>(&self, task: impl Future<Output = N> + Send + 'static) {
        self.spawn(async move {
            task.await;
        });
    }

    /// For tasks that are started later on.
    pub(super) fn supervisor(&self) -> Supervisor {
        self.supervisor.clone()
    }

    /// Resolves when a task has panicked.
    pub(super) async fn broken(&mut self) -> anyhow::Error {
        anyhow!("a part of the agent broke: {}", self.broken.next().await)
    }
}
