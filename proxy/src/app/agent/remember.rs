//! Writes down what is known, for the next start.

use std::path::PathBuf;
use std::time::Duration;

use tracing::{debug, warn};

use super::feeds::Known;
use super::pod_table::PodTable;
use super::snapshot::Snapshot;
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
    /// Those that callers are looked for among.
    pub(super) pods: PodTable,
}

impl Missing {
    pub(super) fn now(&self) -> Vec<&'static str> {
        let mut missing = self.known.missing();
        missing.extend((!self.destinations.is_loaded()).then_some("Secrets"));
        missing.extend((!self.pods.is_listed()).then_some("Pods"));
        missing
    }
}

pub(super) struct Remember {
    pub(super) folder: PathBuf,
    pub(super) pod: String,
    pub(super) missing: Missing,
}

impl Remember {
    /// Writes after changes. Never ends.
    pub(super) async fn run(self) {
        let Missing {
            known,
            destinations,
            pods,
        } = &self.missing;
        let (mut known, mut pods) = (known.changes(), pods.changes());
        let mut destinations = destinations.subscribe();
        let mut written = None;
        let mut failing = false;
        loop {
            tokio::select! {
                Ok(()) = known.changed() => tokio::time::sleep(BURST).await,
                Some(_) = destinations.next() => tokio::time::sleep(BURST).await,
                Ok(()) = pods.changed(), if written.is_none() => tokio::time::sleep(BURST).await,
                () = tokio::time::sleep(PODS), if written.is_some() => {}
            }
            let Some(snapshot) = self.snapshot() else { continue };
            if written.as_ref() == Some(&snapshot) {
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
        let Missing {
            known,
            destinations,
            pods,
        } = &self.missing;
        if !self.missing.now().is_empty() {
            return None;
        }
        let destinations = destinations.snapshot()?;
        let (mut services, mut crs) = known.look(|directory| {
            let services: Vec<_> = directory.entrances().cloned().collect();
            let crs: Vec<_> = directory.crs().cloned().collect();
            (services, crs)
        });
        let mut pods: Vec<_> = pods.read().all().cloned().collect();
        services.sort_by(|one, other| one.service.cmp(&other.service));
        crs.sort_by(|one, other| one.name.cmp(&other.name));
        pods.sort_by_key(|pod| pod.uid);
        Some(Snapshot::new(services, crs, destinations, pods))
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
