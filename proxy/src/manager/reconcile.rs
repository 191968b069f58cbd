//! One name at a time: look, plan, write.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::timeout;
use tracing::{debug, warn};

use super::custom_resource::CustomResource;
use super::destinations::Destinations;
use super::metrics::Looked;
use super::plan::{self, Decisions, Inputs, Plan, Saying};
use super::ports::Ports;
use super::queue::Work;
use super::service::Seen;
use super::world::{World, Written};
use super::writer::{Failed, Writer};
use crate::api::condition::Verdict;
use crate::cluster::watch::Key;
use crate::resolve::check::{Configured, NotConfigured};

/// How long a watch may take to show what was just written. It only saves work to wait for it.
const SHOWN_WITHIN: Duration = Duration::from_secs(5);

pub(super) struct Reconciler {
    pub(super) world: std::sync::Arc<World>,
    pub(super) destinations: Destinations,
    pub(super) ports: Mutex<Ports>,
    pub(super) writer: Writer,
}

impl Decisions for Reconciler {
    fn check(&self, cr: &CustomResource) -> Result<Configured, NotConfigured> {
        self.destinations.check(cr)
    }

    fn target_port(&self, cr: &Key) -> Option<u16> {
        self.ports().of(cr)
    }
}

impl Reconciler {
    pub(super) async fn look(&self, work: Work) {
        match self.reconcile(work.name()).await {
            Ok(is_written) => {
                let looked = if is_written {
                    Looked::Written
                } else {
                    Looked::Nothing
                };
                self.writer.metrics.looked(looked);
                work.done();
            }
            Err(error) => {
                self.writer.metrics.looked(Looked::Failed);
                let name = work.name();
                if matches!(error, Failed::Unanswered { .. }) {
                    warn!(name, %error, "it will be tried again");
                } else {
                    debug!(name, %error, "it will be looked at again");
                }
                work.failed();
            }
        }
    }

    /// Whether there was anything to write.
    async fn reconcile(&self, name: &str) -> Result<bool, Failed> {
        let inputs = self.world.inputs(name);
        let plan = plan::plan(&self.writer.installation, &inputs, self);
        self.ports().keep(name, |cr| inputs.crs.contains_key(cr));
        if plan.is_empty() {
            return Ok(false);
        }
        let mut written = Written::default();
        let carried_out = self.carry_out(plan, &inputs, &mut written).await;
        // Else the next look would see what is not true any more, and write in vain.
        if timeout(SHOWN_WITHIN, self.world.shows(&written)).await.is_err() {
            debug!(name, "the watches do not show yet what was written");
        }
        carried_out.map(|()| true)
    }

    async fn carry_out<C, S>(
        &self,
        mut plan: Plan,
        inputs: &Inputs<C, S>,
        written: &mut Written,
    ) -> Result<(), Failed>
    where
        C: AsRef<CustomResource>,
        S: AsRef<Seen>,
    {
        match self.writer.services(&plan, written).await {
            Ok(()) => {}
            Err(Failed::Refused { key, text }) => say_that_it_is_refused(&mut plan, inputs, &key, &text),
            Err(error) => return Err(error),
        }
        self.writer.say(&plan.say, written).await
    }

    pub(super) fn ports(&self) -> MutexGuard<'_, Ports> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Instead of whatever was to be said of the CR that the Service is for.
fn say_that_it_is_refused<C, S>(plan: &mut Plan, inputs: &Inputs<C, S>, service: &Key, refusal: &str)
where
    C: AsRef<CustomResource>,
{
    let Some(key) = &plan.served else { return };
    plan.say.retain(|saying| saying.cr != *key);
    let Some(cr) = inputs.crs.get(key).map(AsRef::as_ref) else {
        return;
    };
    let verdict = Verdict::service_creation_failed(&service.name, &service.namespace, refusal);
    if !cr.says(&verdict) {
        plan.say.push(Saying {
            cr: key.clone(),
            uid: cr.uid.clone(),
            version: cr.version.clone(),
            verdict,
        });
    }
}
