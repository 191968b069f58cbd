//! Carries plans out, as long as this process surely leads.

mod event;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{self, Service};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;
use tracing::{debug, info};

use super::Installation;
use super::custom_resource::{Wire, status};
use super::lease::Leadership;
use super::metrics::{Kind, Metrics};
use super::plan::{Cause, Deletion, Plan, Saying};
use super::service::{Ours, Wanted};
use super::world::Written;
use crate::api::condition::{AVAILABLE, Verb};
use crate::api::labels;
use crate::cluster::slim::Metadata;
use crate::cluster::watch::Key;
use crate::cluster::{Error, timely_within};
use crate::config::kubernetes::ManagedNamespacesMode;

/// For one write.
const LIMIT: Duration = Duration::from_secs(5);

/// A write may go on for so long after the last moment in which it may begin: others wait for one
/// second more before they take over.
const AFTER_DEADLINE: Duration = Duration::from_secs(4);

pub(super) struct Writer {
    pub(super) client: Client,
    pub(super) installation: Arc<Installation>,
    /// This one.
    pub(super) pod: String,
    pub(super) managed: ManagedNamespacesMode,
    pub(super) leadership: Leadership,
    pub(super) metrics: Metrics,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error("another manager may be leading")]
    NotLeading,
    /// Somebody was faster; what there is now will be told.
    #[error("{0} is not what it was when that was planned")]
    Stale(Key),
    /// The API server will not have this Service.
    #[error("Service {key} cannot be {verb}: {text}")]
    Refused { key: Key, verb: Verb, text: String },
    #[error("{key} could not be {verb}: {error}")]
    Unanswered { key: Key, verb: Verb, error: Error },
}

impl Failed {
    /// How long the API server asks to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unanswered { error, .. } => error.retry_after(),
            _ => None,
        }
    }
}

impl Writer {
    /// What the plan does to Services; tells of each that was written, also where it fails then.
    pub(super) async fn services(&self, plan: &Plan, written: &mut Written) -> Result<(), Failed> {
        for deletion in &plan.delete {
            self.delete(deletion).await?;
            let before = Some(deletion.version.clone());
            written.services.push((deletion.key.clone(), before));
        }
        for wanted in &plan.make {
            self.make(wanted).await?;
            written.services.push((wanted.key.clone(), None));
        }
        for (wanted, seen) in &plan.change {
            if self.change(wanted, seen).await? {
                let before = Some(seen.version.clone());
                written.services.push((wanted.key.clone(), before));
            }
        }
        Ok(())
    }

    /// To each of them, also where another one cannot be told; gives the first failure.
    pub(super) async fn say(&self, sayings: &[Saying], written: &mut Written) -> Result<(), Failed> {
        let mut done = Ok(());
        for saying in sayings {
            match self.say_one(saying).await {
                Ok(()) => {
                    written.crs.push((saying.cr.clone(), saying.version.clone()));
                    self.tell(saying).await;
                }
                Err(failed) => done = done.and(Err(failed)),
            }
        }
        done
    }

    async fn delete(&self, deletion: &Deletion) -> Result<(), Failed> {
        let key = &deletion.key;
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                resource_version: Some(deletion.version.clone()),
                uid: None,
            }),
            ..DeleteParams::default()
        };
        self.confirm(&deletion.cause).await?;
        let services = self.services_in(key);
        match timely_within(self.limit()?, services.delete(&key.name, &params)).await {
            Ok(_) => {}
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(self.failed(key, Verb::Delete, error)),
        }
        self.metrics.wrote(Kind::ServiceDelete);
        info!(service = %key, "Service removed");
        Ok(())
    }

    /// Asked of the API server itself: the watch on CRs or namespaces may be later than the one that
    /// has shown the Service, and what is deleted has another virtual IP when it is made again.
    async fn confirm(&self, cause: &Cause) -> Result<(), Failed> {
        let (cr, expected) = match cause {
            Cause::Gone(cr) => (cr, None),
            Cause::Outranked { by, uid } => (by, Some(uid)),
            Cause::InTheWay => return Ok(()),
        };
        if self.uid(cr).await?.as_ref() == expected {
            Ok(())
        } else {
            Err(Failed::Stale(cr.clone()))
        }
    }

    /// Of the CR, if it is there and managed.
    async fn uid(&self, cr: &Key) -> Result<Option<String>, Failed> {
        let crs: Api<Wire> = Api::namespaced(self.client.clone(), &cr.namespace);
        let found = self.asked(cr, crs.get_opt(&cr.name)).await?;
        let found = found.filter(|found| found.metadata.deletion_timestamp.is_none());
        let uid = found.and_then(|found| found.metadata.uid);
        if self.managed == ManagedNamespacesMode::All || uid.is_none() {
            return Ok(uid);
        }
        let namespaces: Api<Metadata<v1::Namespace>> = Api::all(self.client.clone());
        let found = self.asked(cr, namespaces.get_opt(&cr.namespace)).await?;
        let labels = found.and_then(|found| found.metadata.labels).unwrap_or_default();
        let is_managed = labels.get(labels::NAMESPACE) == Some(&self.installation.namespace);
        Ok(uid.filter(|_| is_managed))
    }

    async fn asked<T>(
        &self,
        cr: &Key,
        request: impl Future<Output = kube::Result<Option<T>>>,
    ) -> Result<Option<T>, Failed> {
        let answer = timely_within(self.limit()?, request).await;
        answer.map_err(|error| self.unanswered(cr, Verb::Read, error))
    }

    async fn make(&self, wanted: &Wanted) -> Result<(), Failed> {
        let key = &wanted.key;
        let service: Service =
            serde_json::from_value(wanted.body(&self.installation)).expect("Services are written like this");
        let params = PostParams {
            field_manager: Some(labels::MANAGER.to_owned()),
            ..PostParams::default()
        };
        let services = self.services_in(key);
        let made = timely_within(self.limit()?, services.create(&params, &service)).await;
        made.map_err(|error| self.failed(key, Verb::Create, error))?;
        self.metrics.wrote(Kind::ServiceCreate);
        info!(service = %key, "Service made");
        Ok(())
    }

    /// Whether there was anything to change, as the API server sees it.
    async fn change(&self, wanted: &Wanted, seen: &Ours) -> Result<bool, Failed> {
        let key = &wanted.key;
        let change = Patch::Merge(wanted.change(seen, &self.installation));
        let services = self.services_in(key);
        let changed = timely_within(self.limit()?, services.patch(&key.name, &params(), &change)).await;
        let changed = changed.map_err(|error| self.failed(key, Verb::Update, error))?;
        self.metrics.wrote(Kind::ServiceUpdate);
        let has_changed = changed.metadata.resource_version.as_deref() != Some(&seen.version);
        if has_changed {
            info!(service = %key, "Service changed");
        }
        Ok(has_changed)
    }

    async fn say_one(&self, saying: &Saying) -> Result<(), Failed> {
        let verdict = &saying.verdict;
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let change = Patch::Merge(json!({
            "metadata": {"resourceVersion": saying.version},
            "status": {"conditions": [{
                "type": AVAILABLE,
                "status": status(verdict),
                "reason": verdict.reason.as_str(),
                "message": verdict.message,
                "lastUpdateTime": now,
            }]},
        }));
        // The answer may be one that is not understood as a whole.
        let crs: Api<Wire> = Api::namespaced(self.client.clone(), &saying.cr.namespace);
        let params = params();
        let said = crs.patch_status(&saying.cr.name, &params, &change);
        match timely_within(self.limit()?, said).await {
            Ok(_) => {}
            // Nobody is left to be told.
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) if error.is_conflict() => return Err(self.failed(&saying.cr, Verb::Update, error)),
            Err(error) => return Err(self.unanswered(&saying.cr, Verb::Update, error)),
        }
        self.metrics.wrote(Kind::Status);
        let (reason, message) = (verdict.reason.as_str(), &verdict.message);
        info!(destination = %saying.cr, available = verdict.status, reason, message, "condition changed");
        Ok(())
    }

    /// Nobody relies on events, so nothing else fails with one.
    async fn tell(&self, saying: &Saying) {
        let Ok(limit) = self.limit() else { return };
        let events: Api<Event> = Api::namespaced(self.client.clone(), &saying.cr.namespace);
        let event = event::of(saying, &self.pod);
        match timely_within(limit, events.create(&PostParams::default(), &event)).await {
            Ok(_) => self.metrics.wrote(Kind::Event),
            Err(error) => debug!(destination = %saying.cr, %error, "the event was not written"),
        }
    }

    fn services_in(&self, key: &Key) -> Api<Service> {
        Api::namespaced(self.client.clone(), &key.namespace)
    }

    /// How long a write may take that begins now; refused where another manager may lead.
    fn limit(&self) -> Result<Duration, Failed> {
        let remaining = self.leadership.remaining().ok_or(Failed::NotLeading)?;
        Ok(LIMIT.min(remaining + AFTER_DEADLINE))
    }

    fn failed(&self, key: &Key, verb: Verb, error: Error) -> Failed {
        match error.code() {
            Some(404 | 409) => {
                self.metrics.failed(&error);
                Failed::Stale(key.clone())
            }
            // Who asks, and how often, says nothing of the Service; anything else does.
            Some(code) if (400..500).contains(&code) && !matches!(code, 401 | 408 | 429) => {
                self.metrics.failed(&error);
                Failed::Refused {
                    key: key.clone(),
                    verb,
                    text: error.to_string(),
                }
            }
            _ => self.unanswered(key, verb, error),
        }
    }

    fn unanswered(&self, key: &Key, verb: Verb, error: Error) -> Failed {
        self.metrics.failed(&error);
        Failed::Unanswered {
            key: key.clone(),
            verb,
            error,
        }
    }
}

fn params() -> PatchParams {
    PatchParams {
        field_manager: Some(labels::MANAGER.to_owned()),
        ..PatchParams::default()
    }
}
