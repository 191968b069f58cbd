//! What has to be done about one name: pure, from what is known to what is to be written.
//!
//! Everything that is called the same is decided together: Destination CRs in all namespaces, the
//! Services made for them, and Services of others.
//!
//! *Guarantees*: what was planned and done leaves nothing to plan; a Service without our labels is
//! never touched; each write is meant for exactly the version of the object that was seen.

use std::collections::BTreeMap;

use super::Installation;
use super::custom_resource::{CustomResource, precedence};
use super::service::{Exposed, Ours, Seen, Wanted};
use crate::api::condition::Verdict;
use crate::cluster::watch::Key;
use crate::resolve::check::{Configured, NotConfigured};

/// Everything of one name.
#[derive(Debug, Clone, Default)]
pub(super) struct Inputs<C, S> {
    /// CRs of that name in managed namespaces.
    pub(super) crs: BTreeMap<Key, C>,
    /// Services of that name in the installation namespace and in those of the CRs, and all that
    /// were made for a CR of that name.
    pub(super) services: BTreeMap<Key, S>,
}

/// What others decide.
pub(super) trait Decisions {
    /// Whether the CR can be served as it stands.
    fn check(&self, cr: &CustomResource) -> Result<Configured, NotConfigured>;

    /// The target port of a CR that is served; none if all are taken.
    fn target_port(&self, cr: &Key) -> Option<u16>;
}

/// To be done in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) delete: Vec<Deletion>,
    pub(super) make: Vec<Wanted>,
    pub(super) change: Vec<(Wanted, Ours)>,
    pub(super) say: Vec<Saying>,
    /// The CR that the Services are for.
    pub(super) served: Option<Key>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Deletion {
    pub(super) key: Key,
    pub(super) version: String,
    pub(super) cause: Cause,
}

/// Why a Service is deleted, as far as is known. One watch may be later than another, so what is
/// said of CRs has to be asked for before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cause {
    /// The CR that it was made for is gone.
    Gone(Key),
    /// Another CR has the name.
    Outranked { by: Key, uid: String },
    /// Somebody else's Service has the name, or none is wanted in this place.
    InTheWay,
}

/// The condition that a CR is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Saying {
    pub(super) cr: Key,
    pub(super) uid: String,
    pub(super) version: String,
    pub(super) verdict: Verdict,
}

impl Plan {
    pub(super) fn is_empty(&self) -> bool {
        self.delete.is_empty() && self.make.is_empty() && self.change.is_empty() && self.say.is_empty()
    }
}

pub(super) fn plan<C, S>(
    installation: &Installation,
    inputs: &Inputs<C, S>,
    decisions: &impl Decisions,
) -> Plan
where
    C: AsRef<CustomResource>,
    S: AsRef<Seen>,
{
    let mut planning = Planning {
        installation,
        services: inputs
            .services
            .iter()
            .map(|(key, seen)| (key, seen.as_ref()))
            .collect(),
        is_there: &|cr| inputs.crs.get(cr).is_some_and(|cr| !cr.as_ref().is_deleted),
        plan: Plan::default(),
    };
    let mut crs: Vec<(&Key, &CustomResource)> = inputs
        .crs
        .iter()
        .map(|(key, cr)| (key, cr.as_ref()))
        .filter(|(_, cr)| !cr.is_deleted)
        .collect();
    crs.sort_by(|one, other| precedence(one.0, one.1).cmp(&precedence(other.0, other.1)));
    let Some(((key, cr), losers)) = crs.split_first() else {
        planning.delete_all_but(None);
        return planning.plan;
    };
    planning.serve(key, cr, decisions);
    for (loser, cr) in losers {
        planning.say(loser, cr, Verdict::duplicate(&loser.name, &key.namespace));
    }
    planning.plan
}

struct Planning<'a> {
    installation: &'a Installation,
    services: BTreeMap<&'a Key, &'a Seen>,
    is_there: &'a dyn Fn(&Key) -> bool,
    plan: Plan,
}

impl Planning<'_> {
    /// The one CR that has the name.
    fn serve(&mut self, key: &Key, cr: &CustomResource, decisions: &impl Decisions) {
        if let Some(namespace) = self.taken(key) {
            // What was made of it leads nowhere or to somebody else.
            self.delete_all_but(None);
            self.say(key, cr, Verdict::name_already_present(&key.name, &namespace));
            return;
        }
        self.delete_all_but(Some((key, cr)));
        self.plan.served = Some(key.clone());
        match decisions.check(cr) {
            // What was said before stays true, and what was made stays.
            Err(NotConfigured::NotLoaded) => {}
            Err(NotConfigured::Refused(verdict)) => {
                self.keep(key, cr, decisions);
                self.say(key, cr, verdict);
            }
            Err(NotConfigured::Answered(verdict)) => {
                self.expose(key, cr, Configured::GATEWAY, decisions, verdict);
            }
            Ok(configured) => {
                let verdict = Verdict::configured(&[&*key.name]);
                self.expose(key, cr, configured, decisions, verdict);
            }
        }
    }

    /// The namespace in which a Service of somebody else has the name.
    fn taken(&self, key: &Key) -> Option<Box<str>> {
        let foreign = self
            .places(key)
            .into_iter()
            .find(|place| matches!(self.services.get(place), Some(Seen::Foreign)))?;
        Some(foreign.namespace)
    }

    /// Of the Services of a CR: that of the name, and that of the virtual IP.
    fn places(&self, key: &Key) -> [Key; 2] {
        [key.clone(), Key::new(&self.installation.namespace, &key.name)]
    }

    fn delete_all_but(&mut self, kept: Option<(&Key, &CustomResource)>) {
        let is_kept = |key: &Key, ours: &Ours| {
            kept.is_some_and(|(cr, _)| {
                ours.cr == *cr
                    && key.name == cr.name
                    && (key.namespace == cr.namespace || *key.namespace == *self.installation.namespace)
            })
        };
        let cause = |ours: &Ours| match kept {
            _ if !(self.is_there)(&ours.cr) => Cause::Gone(ours.cr.clone()),
            Some((by, cr)) if *by != ours.cr => Cause::Outranked {
                by: by.clone(),
                uid: cr.uid.clone(),
            },
            _ => Cause::InTheWay,
        };
        let ours = self
            .services
            .iter()
            .filter_map(|(key, seen)| Some((*key, seen.ours()?)));
        let delete: Vec<Deletion> = ours
            .filter(|(key, ours)| !is_kept(key, ours))
            .map(|(key, ours)| Deletion {
                key: key.clone(),
                version: ours.version.clone(),
                cause: cause(ours),
            })
            .collect();
        for deletion in &delete {
            self.services.remove(&deletion.key);
        }
        self.plan.delete.extend(delete);
    }

    /// What was made stays, whole and as it was, while nobody knows how it should be: applications
    /// get an answer that says why, rather than a name that does not exist.
    fn keep(&mut self, key: &Key, cr: &CustomResource, decisions: &impl Decisions) {
        let made = |place: &Key| self.services.get(place)?.ours()?.configured();
        let left = self.places(key).iter().rev().find_map(made);
        if let Some(configured) = left
            && let Some(target_port) = decisions.target_port(key)
        {
            self.put(key, cr, configured, target_port);
        }
    }

    fn expose(
        &mut self,
        key: &Key,
        cr: &CustomResource,
        configured: Configured,
        decisions: &impl Decisions,
        verdict: Verdict,
    ) {
        let Some(target_port) = decisions.target_port(key) else {
            self.say(key, cr, Verdict::failed("All target ports are in use."));
            return;
        };
        self.put(key, cr, configured, target_port);
        self.say(key, cr, verdict);
    }

    /// The Services of the CR, unless they are there already.
    fn put(&mut self, key: &Key, cr: &CustomResource, configured: Configured, target_port: u16) {
        let exposed = Exposed {
            cr: key,
            uid: &cr.uid,
            kind: configured.kind,
            port: configured.port(&cr.destination),
            target_port,
        };
        for wanted in Wanted::of(exposed, self.installation) {
            match self.services.get(&wanted.key).and_then(|seen| seen.ours()) {
                None => self.plan.make.push(wanted),
                Some(ours) if wanted.is_there(ours) => {}
                Some(ours) => self.plan.change.push((wanted, ours.clone())),
            }
        }
    }

    /// Unless it is said already.
    fn say(&mut self, key: &Key, cr: &CustomResource, verdict: Verdict) {
        if !cr.says(&verdict) {
            self.plan.say.push(Saying {
                cr: key.clone(),
                uid: cr.uid.clone(),
                version: cr.version.clone(),
                verdict,
            });
        }
    }
}

#[cfg(test)]
mod tests;
