//! The pods of all nodes, where addresses have to tell who calls.
//!
//! A fallback asks for every connection. An agent with a hook rarely does: when a connection
//! comes without the kernel's word, from a node without agent or to the address of the pod. A
//! watch of all pods on every node would be much to ask of the API server, so there it
//! begins with the first such connection and ends when there were none for a while. The first
//! one waits for the list.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tracing::info;

use super::pod_table::PodTable;
use crate::cluster::watch::Task;
use crate::resolve::pods::Owner;

/// Without a question for so long, the watch ends.
const UNUSED: Duration = Duration::from_mins(15);

/// Clones share the pods.
#[derive(Debug, Clone, Default)]
pub(super) struct AllPods(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    table: PodTable,
    asked: Notify,
    /// Since the clock was set back last.
    used: AtomicBool,
    for_ever: AtomicBool,
}

impl AllPods {
    pub(super) fn table(&self) -> &PodTable {
        &self.0.table
    }

    /// Watches from now on, whether somebody asks or not.
    pub(super) fn keep_for_ever(&self) {
        self.0.for_ever.store(true, Ordering::Relaxed);
        self.0.asked.notify_one();
    }

    /// Whose address it is; waits for a pod that is not known yet.
    pub(super) async fn owner(&self, address: IpAddr, patience: Duration) -> Owner {
        self.0.used.store(true, Ordering::Relaxed);
        self.0.asked.notify_one();
        let found = self.0.table.owner_soon(address, patience).await;
        found.unwrap_or(Owner::Unknown)
    }

    /// What is known without a question to anybody.
    pub(super) fn owner_at_hand(&self, address: IpAddr) -> Owner {
        self.0.table.owner(address)
    }

    /// Runs the watch that `start` gives, as long as it is wanted. Never ends.
    pub(super) async fn run(self, start: impl Fn(PodTable) -> Task) {
        loop {
            while !self.is_wanted() {
                self.0.asked.notified().await;
            }
            info!("watching all pods, to know callers by their addresses");
            let watch = start(self.0.table.clone());
            tokio::select! {
                never = watch => match never {},
                () = self.unused() => {}
            }
            self.0.table.forget();
            info!("no longer watching all pods");
        }
    }

    fn is_wanted(&self) -> bool {
        self.0.used.load(Ordering::Relaxed) || self.0.for_ever.load(Ordering::Relaxed)
    }

    /// Resolves when nobody has asked for a while.
    async fn unused(&self) {
        loop {
            sleep_until(Instant::now() + UNUSED).await;
            if !self.is_wanted() {
                return;
            }
            self.0.used.store(false, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::watch::Sink as _;

    /// A watch that lists nothing.
    fn empty(mut table: PodTable) -> Task {
        Box::pin(async move {
            table.begin();
            table.finish();
            std::future::pending().await
        })
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_no_watch_before_somebody_asks_and_none_when_nobody_does() {
        let all = AllPods::default();
        tokio::spawn(all.clone().run(empty));
        let address = "10.0.0.1".parse().unwrap();
        assert_eq!(all.owner_at_hand(address), Owner::Unknown);
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert!(!all.table().is_listed());
        all.owner(address, Duration::from_secs(2)).await;
        assert!(all.table().is_listed());
        tokio::time::sleep(UNUSED / 2).await;
        all.owner(address, Duration::from_secs(2)).await;
        tokio::time::sleep(UNUSED).await;
        assert!(all.table().is_listed(), "somebody has asked meanwhile");
        tokio::time::sleep(UNUSED).await;
        assert!(!all.table().is_listed());
        all.owner(address, Duration::from_secs(2)).await;
        assert!(all.table().is_listed());
    }

    #[tokio::test(start_paused = true)]
    async fn where_every_connection_asks_it_stays() {
        let all = AllPods::default();
        tokio::spawn(all.clone().run(empty));
        all.keep_for_ever();
        tokio::time::sleep(UNUSED * 5).await;
        assert!(all.table().is_listed());
    }
}
