//! The beginning: what the API server knows, or else what was known before.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, info, warn};

use super::remember::{Missing, now};
use super::snapshot::Snapshot;
use crate::cluster::watch::{Report, Watches};
use crate::resolve::source::secrets::Writer;

/// An API server that is there has told everything by then, also of a large cluster, or has at
/// least begun to.
const PATIENCE: Duration = Duration::from_secs(3);
/// Once it has answered anything, its silence may mean that it has much to do.
const BUSY: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);

pub(super) struct Begin {
    pub(super) folder: PathBuf,
    pub(super) pod: String,
    pub(super) missing: Missing,
    pub(super) writer: Arc<Mutex<Writer>>,
}

/// Why not everything is known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reason {
    /// The API server is there, and has more to tell.
    Busy,
    /// It says that somebody must not know, and why.
    Denied(String),
    Away,
}

impl Reason {
    fn of(reports: &[Report]) -> Self {
        if let Some(denied) = reports.iter().find(|report| report.denied) {
            let error = denied.error.as_deref().unwrap_or("access is denied");
            return Self::Denied(format!("{}: {error}", denied.resource));
        }
        let answered = reports.iter().any(|report| report.answered);
        let patience = if answered { BUSY } else { PATIENCE };
        // Of those that are complete nothing is waited for, and a quiet one hears something once a minute.
        let missing = reports.iter().filter(|report| !report.synced);
        match missing.map(|report| report.since_answer).min() {
            Some(silent) if silent >= patience => Self::Away,
            _ => Self::Busy,
        }
    }

    fn tell(&self, missing: &Missing) {
        let missing = missing.now().join(", ");
        match self {
            Self::Busy => info!(missing, "the API server has not told everything yet"),
            Self::Denied(error) => error!(
                missing,
                error, "the API server denies what an agent has to know, waiting for the permission"
            ),
            Self::Away => info!(missing, "waiting for the API server"),
        }
    }
}

impl Begin {
    /// Resolves when it is known what to serve. Nothing is worse than to serve less than before:
    /// without a memory, the API server is waited for as long as it takes. And what it would say
    /// counts more than a memory, as long as it is there.
    pub(super) async fn know(&self, watches: &Watches) {
        let begun = Instant::now();
        let (mut told, mut tried) = (None, false);
        while !self.missing.now().is_empty() {
            let reason = Reason::of(&watches.reports());
            if reason == Reason::Away && !tried {
                tried = true;
                if self.recall() {
                    return;
                }
            }
            if begun.elapsed() >= PATIENCE && told.as_ref() != Some(&reason) {
                reason.tell(&self.missing);
                told = Some(reason);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether there was something to go by.
    fn recall(&self) -> bool {
        let missing = self.missing.now().join(", ");
        match Snapshot::read(&self.folder) {
            Ok(Some(snapshot)) => {
                warn!(
                    missing,
                    services = snapshot.services.len(),
                    as_of = snapshot.as_of,
                    "the API server does not answer; what was known before is served, as far as it needs no credential"
                );
                self.restore(snapshot);
                true
            }
            Ok(None) => false,
            Err(error) => {
                let cause = std::error::Error::source(&error).map(tracing::field::display);
                error!(missing, %error, cause, "what was known before cannot be read");
                false
            }
        }
    }

    fn restore(&self, snapshot: Snapshot) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.missing.destinations.is_loaded() {
            writer.restore(&snapshot.destinations);
        }
        drop(writer);
        // The clock may have been wrong then.
        let age = Duration::from_secs(u64::try_from(now() - snapshot.as_of).unwrap_or_default());
        self.missing
            .restore_pods(&snapshot.own, &self.pod, &snapshot.pods, age);
        self.missing.known.restore(
            snapshot.services.into_iter().map(Arc::unwrap_or_clone).collect(),
            snapshot.crs.into_iter().map(Arc::unwrap_or_clone).collect(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(answered: bool, silent: Duration) -> Report {
        Report {
            resource: "Pods",
            synced: false,
            answered,
            denied: false,
            dispensed: false,
            since_event: silent,
            since_answer: silent,
            error: None,
        }
    }

    #[test]
    fn an_api_server_that_says_nothing_is_away() {
        let silent = [report(false, PATIENCE), report(false, BUSY)];
        assert_eq!(Reason::of(&silent), Reason::Away);
        let new = [report(false, PATIENCE), report(false, Duration::ZERO)];
        assert_eq!(Reason::of(&new), Reason::Busy);
    }

    #[test]
    fn one_that_has_begun_to_answer_is_given_time() {
        let slow = [report(true, PATIENCE * 2), report(false, PATIENCE * 2)];
        assert_eq!(Reason::of(&slow), Reason::Busy);
        let gone = [report(true, BUSY), report(false, BUSY)];
        assert_eq!(Reason::of(&gone), Reason::Away);
    }

    /// API servers send bookmarks about once a minute.
    #[test]
    fn quiet_watches_say_nothing_about_one_that_is_missing() {
        let quiet = Report {
            synced: true,
            ..report(true, BUSY * 2)
        };
        let listing = report(true, Duration::ZERO);
        assert_eq!(Reason::of(&[quiet.clone(), listing]), Reason::Busy);
        let lively = Report {
            synced: true,
            ..report(true, Duration::ZERO)
        };
        assert_eq!(Reason::of(&[lively, report(true, BUSY)]), Reason::Away);
        assert_eq!(Reason::of(&[quiet]), Reason::Busy, "nothing is missing");
    }

    #[test]
    fn one_that_denies_is_there() {
        let denied = Report {
            denied: true,
            error: Some("pods is forbidden".into()),
            ..report(false, BUSY)
        };
        assert_eq!(
            Reason::of(&[report(false, BUSY), denied]),
            Reason::Denied("Pods: pods is forbidden".into())
        );
    }
}
