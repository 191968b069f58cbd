//! An agent from its first connection to its last.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Agent;
use super::begin::Begin;
use super::control::Order;
use super::hook::Keeper;
use super::tasks::Tasks;
use crate::app::in_cluster;
use crate::lifecycle::drain::Drained;

/// So long after the signal connections are still accepted: it takes a moment until no node
/// sends any more, and the hooks of this one are gone for no longer than that.
const LINGER: Duration = Duration::from_secs(5);

/// An agent that serves, or is about to.
pub(super) struct Running<'a> {
    pub(super) agent: Agent<'a>,
    pub(super) order: mpsc::Sender<Order>,
    pub(super) hook: Option<HookTask>,
}

/// The keeper of the hook, which is told when to begin and when to end.
pub(super) struct HookTask {
    begin: Option<oneshot::Sender<oneshot::Sender<()>>>,
    stop: CancellationToken,
    stopped: CancellationToken,
}

impl HookTask {
    pub(super) fn start(keeper: Keeper, tasks: &Tasks) -> Self {
        let (begin, begun) = oneshot::channel();
        let (stop, stopped) = (CancellationToken::new(), CancellationToken::new());
        let (asked, at_the_end) = (stop.clone(), stopped.clone().drop_guard());
        tasks.spawn(async move {
            if let Ok(tried) = begun.await {
                keeper.run(tried, asked).await;
            }
            drop(at_the_end);
        });
        Self {
            begin: Some(begin),
            stop,
            stopped,
        }
    }

    /// Resolves when the hook is in place, or was tried.
    async fn begin(&mut self) {
        let (tried, first) = oneshot::channel();
        if let Some(begin) = self.begin.take()
            && begin.send(tried).is_ok()
        {
            // Either it was tried, or somebody has asked to stop.
            let _ = first.await;
        }
    }

    /// Resolves when nothing is redirected any more.
    async fn stop(self) {
        drop(self.begin);
        self.stop.cancel();
        self.stopped.cancelled().await;
    }
}

impl Running<'_> {
    /// Resolves when connections may come: all that is known is served, and the hook is in place
    /// or was tried.
    pub(super) async fn begin(&mut self) {
        let agent = &self.agent;
        let begin = Begin {
            folder: agent.arguments.state.clone(),
            pod: agent.arguments.cluster.pod.clone(),
            missing: agent.missing(),
            writer: Arc::clone(&agent.writer),
        };
        begin.know(&agent.feeds.watches).await;
        let (settle, settled) = oneshot::channel();
        if self.order.send(Order::Settle(settle)).await.is_ok() {
            // Only the end of the control could break this off.
            let _ = settled.await;
        }
        if let Some(hook) = &mut self.hook {
            hook.begin().await;
        }
    }

    /// The hook first, so that others get what is new; then what is open may finish.
    pub(super) async fn stop(self) {
        let drain = self.agent.drain;
        drain.leave();
        if let Some(hook) = self.hook {
            hook.stop().await;
        }
        let deadline = self.agent.settings.drain_seconds.duration();
        let finishing = async {
            tokio::time::sleep(LINGER).await;
            drain.finish(deadline).await
        };
        let drained = tokio::select! {
            drained = finishing => drained,
            () = in_cluster::asked_again() => {
                drain.cut();
                drain.finish(Duration::ZERO).await
            }
        };
        if let Drained::Cut(held) = drained {
            warn!(connections = held, "connections were cut");
        }
    }
}
