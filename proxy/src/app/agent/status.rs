//! What an agent tells of itself at `/status`. Nothing of destinations: whoever reaches the
//! pod may read it.

use std::sync::Arc;

use super::COMPONENT;
use super::additional_cas::AdditionalCas;
use super::all_pods::AllPods;
use super::hook::HookState;
use super::limits::PlaneLimits;
use crate::accept::Usage;
use crate::admin::Fact;
use crate::admin::probes::Component;
use crate::app::in_cluster;
use crate::cluster::watch::Watches;
use crate::resolve::source::secrets::Reader;

pub(super) struct Status {
    pub(super) node: String,
    pub(super) fallback: bool,
    pub(super) hook: HookState,
    pub(super) watches: Watches,
    pub(super) all: AllPods,
    pub(super) destinations: Reader,
    pub(super) additional_cas: Option<AdditionalCas>,
    pub(super) limits: Arc<PlaneLimits>,
}

impl Status {
    pub(super) fn component(&self) -> Component {
        let mut facts = vec![Fact {
            name: "serves".into(),
            value: if self.fallback {
                "what comes by the Services, from all nodes"
            } else {
                "the pods of this node, and what comes by the Services"
            }
            .into(),
            ok: true,
        }];
        facts.extend(self.watched());
        facts.push(Fact {
            name: "all pods are watched".into(),
            value: if self.all.table().is_listed() { "yes" } else { "no" }.into(),
            ok: true,
        });
        facts.extend(self.additional_cas.as_ref().map(AdditionalCas::fact));
        facts.push(in_cluster::refused_secrets(&self.destinations));
        facts.extend([
            connections("HTTP connections", self.limits.http.usage()),
            connections("TCP connections", self.limits.tcp.usage()),
        ]);
        Component {
            component: COMPONENT.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            node: Some(self.node.clone()),
            hook: Some(self.hook.hook()),
            facts,
        }
    }

    fn watched(&self) -> impl Iterator<Item = Fact> {
        self.watches.reports().into_iter().map(|report| Fact {
            name: format!("watch of {}", report.resource),
            ok: report.synced && report.error.is_none(),
            value: match (report.synced, report.error) {
                (_, Some(error)) => error,
                (false, None) => "not listed yet".into(),
                (true, None) => format!("heard {} s ago", report.since_event.as_secs()),
            },
        })
    }
}

fn connections(name: &str, usage: Usage) -> Fact {
    let at_most = usage
        .at_most
        .map_or_else(String::new, |at_most| format!(" of at most {at_most}"));
    Fact {
        name: name.into(),
        value: format!(
            "{} open{at_most}; {} refused by limits, accepting paused {} times",
            usage.open, usage.refused, usage.pauses
        ),
        ok: !usage.is_full(),
    }
}
