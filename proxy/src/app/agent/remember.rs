//! Writes down what is known, for the next start.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing::{debug, warn};

use super::additional_cas;
use super::all_pods::AllPods;
use super::feeds::{Known, OwnPod};
use super::pod_table::PodTable;
use super::snapshot::{self, Own, Snapshot};
use crate::cluster::watch::{Report, Watches};
use crate::resolve::pods::Pod;
use crate::resolve::source::secrets::Reader;

/// Changes come in bursts, and a few seconds of them may be lost.
const BURST: Duration = Duration::from_secs(2);
/// Pods come and go all the time.
const PODS: Duration = Duration::from_secs(30);

/// What has never been listed completely; clones tell the same.
#[derive(Clone)]
pub(super) struct Missing {
    pub(super) known: Known,
    pub(super) destinations: Reader,
    /// The pods of this node, with a hook.
    pub(super) node: Option<PodTable>,
    pub(super) all: AllPods,
    pub(super) own: Arc<OwnPod>,
    pub(super) watches: Watches,
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_secs().cast_signed()
}

impl Missing {
    pub(super) fn now(&self) -> Vec<&'static str> {
        let mut missing = self.known.missing();
        missing.extend((!self.destinations.is_loaded()).then_some("Secrets"));
        let pods_listed = self.tables().all(PodTable::is_listed);
        missing.extend((!pods_listed).then_some("Pods"));
        missing
    }

    /// Adds the pods that were known `age` ago to the tables in which callers are looked for.
    pub(super) fn restore_pods(&self, own: &Own, pod: &str, pods: &[Arc<Pod>], age: Duration) {
        if !self.tables().all(PodTable::is_listed) {
            self.own.restore(own, pod);
        }
        if self.own.is_endpoint() {
            self.all.keep_for_ever();
        }
        for table in self.tables() {
            table.restore(pods.iter().map(|pod| Pod::clone(pod)), age);
        }
    }

    /// Where callers are looked for: also where Services lead to an agent with a hook, they come
    /// from all nodes.
    fn tables(&self) -> impl Iterator<Item = &PodTable> {
        let all = self.node.is_none() || self.own.is_endpoint();
        self.node.iter().chain(all.then(|| self.all.table()))
    }

    /// Those of the largest table.
    fn pods(&self) -> Vec<Arc<Pod>> {
        let table = self.tables().last();
        table.map_or_else(Vec::new, |table| table.read().all().cloned().collect())
    }

    /// When the API server was last heard on every watch of what is written down.
    fn as_of(&self) -> i64 {
        now() - age(self.watches.relied_on()).as_secs().cast_signed()
    }
}

fn age(watches: impl Iterator<Item = Report>) -> Duration {
    let written = watches.filter(|report| report.resource != additional_cas::RESOURCE);
    let oldest = written.map(|report| report.since_event).max();
    oldest.unwrap_or_default()
}

pub(super) struct Remember {
    pub(super) folder: PathBuf,
    pub(super) pod: String,
    pub(super) missing: Missing,
}

impl Remember {
    /// Writes after changes. Never ends.
    pub(super) async fn run(self) {
        let mut known = self.missing.known.changes();
        let mut destinations = self.missing.destinations.subscribe();
        let mut written: Option<Snapshot> = None;
        let mut failing = false;
        loop {
            tokio::select! {
                Ok(()) = known.changed() => tokio::time::sleep(BURST).await,
                Some(_) = destinations.next() => tokio::time::sleep(BURST).await,
                () = tokio::time::sleep(PODS), if written.is_some() => {}
            }
            let Some(snapshot) = self.snapshot() else { continue };
            if written.as_ref().is_some_and(|before| !snapshot.is_news(before)) {
                continue;
            }
            match self.write(snapshot).await {
                Ok(snapshot) => {
                    failing = false;
                    written = Some(snapshot);
                }
                Err(error) if !failing => {
                    failing = true;
                    warn!(error, "a restart while the API server is away will serve nothing");
                }
                Err(_again) => {}
            }
        }
    }

    /// Once everything is listed: half of the truth is not written over the whole.
    fn snapshot(&self) -> Option<Snapshot> {
        if !self.missing.now().is_empty() {
            return None;
        }
        let destinations = self.missing.destinations.snapshot()?;
        let (services, crs) = self.missing.known.look(|directory| {
            let services = directory.entrances().cloned().collect();
            let crs = directory.crs().cloned().collect();
            (services, crs)
        });
        Some(Snapshot::new(snapshot::Known {
            as_of: self.missing.as_of(),
            own: self.missing.own.remember(&self.pod),
            services,
            crs,
            destinations,
            pods: self.missing.pods(),
        }))
    }

    async fn write(&self, snapshot: Snapshot) -> Result<Snapshot, String> {
        let (folder, pod) = (self.folder.clone(), self.pod.clone());
        let writing = tokio::task::spawn_blocking(move || snapshot.write(&folder, &pod).map(|()| snapshot));
        match writing.await {
            Ok(Ok(snapshot)) => {
                debug!("what is known was written down");
                Ok(snapshot)
            }
            Ok(Err(error)) => Err(format!("{:#}", anyhow::Error::from(error))),
            Err(error) => Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_written_down_makes_nothing_older() {
        let of = |resource, seconds| Report {
            resource,
            synced: true,
            answered: true,
            denied: false,
            dispensed: false,
            since_event: Duration::from_secs(seconds),
            since_answer: Duration::ZERO,
            error: None,
        };
        let watches = [
            of("Pods", 20),
            of(additional_cas::RESOURCE, 300),
            of("Secrets", 10),
        ];
        assert_eq!(age(watches.into_iter()).as_secs(), 20);
    }
}
