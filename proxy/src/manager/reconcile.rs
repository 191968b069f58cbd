//! One name at a time: look, plan, write.

use std::collections::HashMap;
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

/// How long a watch may take to show what was just written. It only saves work to wait for it, and what somebody has
/// deleted in the meantime is never shown.
const SHOWN_WITHIN: Duration = Duration::from_secs(1);

pub(super) struct Reconciler {
    pub(super) world: std::sync::Arc<World>,
    pub(super) destinations: Destinations,
    pub(super) ports: Mutex<Ports>,
    pub(super) writer: Writer,
    pub(super) troubles: Mutex<Troubles>,
}

/// So many answers of an API server in trouble in a row are no passing one.
const LASTING: u32 = 3;

/// How often in a row Services could not be written because the API server is in trouble.
#[derive(Debug, Default)]
pub(super) struct Troubles(HashMap<Box<str>, u32>);

impl Troubles {
    /// Whether this goes on for so long that users are told.
    fn is_broken(&mut self, name: &str, done: &Result<(), Failed>) -> bool {
        let Err(Failed::Unanswered { error, .. }) = done else {
            self.forget(name);
            return false;
        };
        if error.code().is_none_or(|code| code < 500) {
            return false;
        }
        let times = self.0.entry(name.into()).or_default();
        *times = times.saturating_add(1);
        *times >= LASTING
    }

    fn forget(&mut self, name: &str) {
        self.0.remove(name);
    }
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
                if is_written {
                    self.writer.metrics.looked(Looked::Written);
                    work.written();
                } else {
                    self.writer.metrics.looked(Looked::Nothing);
                    work.done();
                }
            }
            Err(error) => {
                self.writer.metrics.looked(Looked::Failed);
                let name = work.name();
                if matches!(error, Failed::Unanswered { .. }) {
                    warn!(name, %error, "it will be tried again");
                } else {
                    debug!(name, %error, "it will be looked at again");
                }
                work.failed(error.retry_after());
            }
        }
    }

    /// Whether there was anything to write.
    async fn reconcile(&self, name: &str) -> Result<bool, Failed> {
        let inputs = self.world.inputs(name);
        let plan = plan::plan(&self.writer.installation, &inputs, self);
        if plan.is_empty() {
            self.troubles().forget(name);
            self.release_ports(name, &inputs);
            return Ok(false);
        }
        let mut written = Written::default();
        let carried_out = self.carry_out(name, plan, &inputs, &mut written).await;
        // Else the next look would see what is not true any more, and write in vain.
        if timeout(SHOWN_WITHIN, self.world.shows(&written)).await.is_err() {
            debug!(name, "the watches do not show yet what was written");
        }
        carried_out.map(|()| true)
    }

    async fn carry_out<C, S>(
        &self,
        name: &str,
        mut plan: Plan,
        inputs: &Inputs<C, S>,
        written: &mut Written,
    ) -> Result<(), Failed>
    where
        C: AsRef<CustomResource>,
        S: AsRef<Seen>,
    {
        let done = self.writer.services(&plan, written).await;
        let broken = self.troubles().is_broken(name, &done);
        match done {
            Ok(()) => self.release_ports(name, inputs),
            Err(failed @ Failed::Refused { .. }) => say_that_it_failed(&mut plan, inputs, &failed),
            Err(failed) if broken => {
                say_that_it_failed(&mut plan, inputs, &failed);
                self.writer.say(&plan.say, written).await?;
                return Err(failed);
            }
            Err(failed) => return Err(failed),
        }
        self.writer.say(&plan.say, written).await
    }

    /// Only once the Services of CRs that are gone are gone too: until then the port is theirs, and
    /// the CR may only have been thought gone.
    fn release_ports<C, S>(&self, name: &str, inputs: &Inputs<C, S>) {
        self.ports().keep(name, |cr| inputs.crs.contains_key(cr));
    }

    fn troubles(&self) -> MutexGuard<'_, Troubles> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ports(&self) -> MutexGuard<'_, Ports> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Instead of whatever was to be said of the CR that the Service is for.
fn say_that_it_failed<C, S>(plan: &mut Plan, inputs: &Inputs<C, S>, failed: &Failed)
where
    C: AsRef<CustomResource>,
{
    let (service, verb, text) = match failed {
        Failed::Refused { key, verb, text } => (key, *verb, text.clone()),
        Failed::Unanswered { key, verb, error } => (key, *verb, error.to_string()),
        Failed::NotLeading | Failed::Stale(_) => return,
    };
    let Some(key) = &plan.served else {
        warn!(%service, error = text, "the Service could not be {verb}, and no Destination CR is left to say so");
        return;
    };
    plan.say.retain(|saying| saying.cr != *key);
    let Some(cr) = inputs.crs.get(key).map(AsRef::as_ref) else {
        return;
    };
    let verdict = Verdict::service_creation_failed(verb, &service.name, &service.namespace, &text);
    let is_said = match failed {
        // An API server in trouble has other words for it each time.
        Failed::Unanswered { .. } => cr.says_in_other_words(&verdict),
        _ => cr.says(&verdict),
    };
    if !is_said {
        plan.say.push(Saying {
            cr: key.clone(),
            uid: cr.uid.clone(),
            version: cr.version.clone(),
            verdict,
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::condition::Verb;
    use crate::cluster::Error;

    fn orders() -> Key {
        Key::new("shop", "orders")
    }

    fn unanswered(text: &str) -> Failed {
        let status = json!({"status": "Failure", "code": 500, "message": text});
        let status = serde_json::from_value(status).unwrap();
        Failed::Unanswered {
            key: orders(),
            verb: Verb::Update,
            error: Error::from(kube::Error::Api(status)),
        }
    }

    fn refused(text: &str) -> Failed {
        Failed::Refused {
            key: orders(),
            verb: Verb::Update,
            text: text.to_owned(),
        }
    }

    /// What the CR is told then, where it says this already.
    fn told(said: Option<&Verdict>, failed: &Failed) -> Option<Verdict> {
        let condition = said.map(|verdict| {
            json!({
                "type": "Available",
                "status": "False",
                "reason": verdict.reason.as_str(),
                "message": verdict.message,
            })
        });
        let cr = json!({
            "metadata": {"namespace": "shop", "name": "orders"},
            "spec": {"destinationRef": {"name": "d"}},
            "status": {"conditions": condition.into_iter().collect::<Vec<_>>()},
        });
        let cr = CustomResource::read(serde_json::from_value(cr).unwrap());
        let inputs = Inputs::<CustomResource, Seen> {
            crs: [(orders(), cr)].into(),
            services: [].into(),
        };
        let mut plan = Plan {
            served: Some(orders()),
            ..Plan::default()
        };
        say_that_it_failed(&mut plan, &inputs, failed);
        plan.say.pop().map(|saying| saying.verdict)
    }

    #[test]
    fn an_outage_is_told_once_in_whatever_words_it_comes() {
        let first = told(None, &unanswered("leader changed")).unwrap();
        assert!(first.message.ends_with("leader changed"), "{}", first.message);
        assert_eq!(told(Some(&first), &unanswered("request timed out")), None);
        let deleted = Verdict::service_creation_failed(Verb::Delete, "orders", "shop", "leader changed");
        assert!(told(Some(&deleted), &unanswered("leader changed")).is_some());
    }

    #[test]
    fn a_refusal_is_told_in_its_own_words() {
        let outage = told(None, &unanswered("leader changed")).unwrap();
        let first = told(Some(&outage), &refused("exceeded quota")).unwrap();
        assert!(first.message.ends_with("exceeded quota"), "{}", first.message);
        assert_eq!(told(Some(&first), &refused("exceeded quota")), None);
        assert!(told(Some(&first), &refused("a policy says no")).is_some());
    }
}
