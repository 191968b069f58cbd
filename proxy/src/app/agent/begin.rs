//! The beginning: what the API server knows, or else what was known before.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::{error, info, warn};

use super::remember::Missing;
use super::snapshot::Snapshot;
use crate::resolve::source::secrets::Writer;

/// An API server that is there has told everything by then, also of a large cluster.
const PATIENCE: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(20);

pub(super) struct Begin {
    pub(super) folder: PathBuf,
    pub(super) missing: Missing,
    pub(super) writer: Arc<Mutex<Writer>>,
}

impl Begin {
    /// Resolves when it is known what to serve. Nothing is worse than to serve less than before:
    /// without a memory, the API server is waited for as long as it takes.
    pub(super) async fn know(&self) {
        if tokio::time::timeout(PATIENCE, self.listed()).await.is_ok() {
            return;
        }
        let missing = self.missing.now().join(", ");
        match Snapshot::read(&self.folder) {
            Ok(Some(snapshot)) => {
                warn!(
                    missing,
                    services = snapshot.services.len(),
                    "the API server does not answer; what was known before is served, as far as it needs no credential"
                );
                self.restore(snapshot);
            }
            Ok(None) => {
                info!(missing, "waiting for the API server");
                self.listed().await;
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(tracing::field::display);
                error!(missing, %error, cause, "what was known before cannot be read, waiting for the API server");
                self.listed().await;
            }
        }
    }

    async fn listed(&self) {
        while !self.missing.now().is_empty() {
            tokio::time::sleep(LOOK).await;
        }
    }

    fn restore(&self, snapshot: Snapshot) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.missing.destinations.is_loaded() {
            writer.restore(&snapshot.destinations);
        }
        drop(writer);
        self.missing
            .pods
            .restore(snapshot.pods.into_iter().map(Arc::unwrap_or_clone).collect());
        self.missing.known.restore(
            snapshot.services.into_iter().map(Arc::unwrap_or_clone).collect(),
            snapshot.crs.into_iter().map(Arc::unwrap_or_clone).collect(),
        );
    }
}
