//! `/status`: what the pods, and the hooks on their nodes, mean for the parts of the installation.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::SlimService;
use super::hooks::{NodeHook, NodeHooks};
use super::pods::{Part, Pod};
use super::wanted;
use crate::admin::probes::HookState;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Ok,
    Warning,
    Critical,
}

/// What a destination speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plane {
    Http,
    /// Everything else.
    Tcp,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct ServiceSpec {
    #[serde(default)]
    ports: Vec<Port>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    name: Option<String>,
    app_protocol: Option<String>,
}

impl Plane {
    pub(super) fn of(service: &SlimService) -> Self {
        let port = service.spec.as_ref().and_then(|spec| spec.ports.first());
        let protocol = port.and_then(|port| port.app_protocol.as_deref().or(port.name.as_deref()));
        match protocol {
            Some("http") | None => Self::Http,
            Some(_) => Self::Tcp,
        }
    }
}

/// Which planes there are destinations for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Used {
    pub(super) http: bool,
    pub(super) tcp: bool,
}

impl Used {
    pub(super) fn add(&mut self, plane: Plane) {
        match plane {
            Plane::Http => self.http = true,
            Plane::Tcp => self.tcp = true,
        }
    }
}

/// The answer. The names of the fields are what monitoring tools look for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Status {
    pub(super) status: Level,
    pub(super) components: Components,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Components {
    #[serde(rename = "sap-transp-proxy-http")]
    pub(super) http: Component,
    #[serde(rename = "sap-transp-proxy-tcp")]
    pub(super) tcp: Component,
    #[serde(rename = "sap-transp-proxy-manager")]
    pub(super) manager: Component,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Component {
    pub(super) status: Level,
    /// Only where there is something to tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<String>,
    /// Only where it is not ok.
    #[serde(skip_serializing_if = "Option::is_none")]
    affected_deployments: Option<Vec<String>>,
}

impl Status {
    /// `wanted` is how many nodes want an agent, if any. `silence` is how long nothing was heard of
    /// the API server, if that is too long.
    pub(super) fn of(
        pods: &[Arc<Pod>],
        wanted: Option<usize>,
        hooks: &NodeHooks,
        used: Used,
        silence: Option<Duration>,
    ) -> Self {
        let proxies = Proxies::of(pods, wanted, hooks);
        let components = Components {
            http: if used.http {
                proxies.component()
            } else {
                Component::ok()
            },
            tcp: if used.tcp {
                proxies.with_places()
            } else {
                Component::ok()
            },
            manager: manager(pods, silence),
        };
        let levels = [
            Some(components.manager.status),
            used.http.then_some(components.http.status),
            used.tcp.then_some(components.tcp.status),
        ];
        Self {
            status: overall(levels.into_iter().flatten()),
            components,
        }
    }
}

/// Critical where everything is, otherwise no worse than a warning.
fn overall(levels: impl Iterator<Item = Level>) -> Level {
    let levels: BTreeSet<Level> = levels.collect();
    match (levels.first(), levels.last()) {
        (Some(Level::Critical), _) => Level::Critical,
        (_, Some(Level::Ok)) | (None, _) => Level::Ok,
        _ => Level::Warning,
    }
}

impl Component {
    fn ok() -> Self {
        Self {
            status: Level::Ok,
            message: None,
            affected_deployments: None,
        }
    }

    fn bad(status: Level, message: String) -> Self {
        Self {
            status,
            message: Some(message),
            affected_deployments: None,
        }
    }

    /// Something worth to be told that makes nothing worse.
    fn with_remark(self, remark: Option<String>) -> Self {
        let said = self.message.into_iter().chain(remark);
        let message = said.reduce(|one, other| format!("{one}; {other}"));
        Self { message, ..self }
    }

    /// `problems` are worth a warning.
    fn warning_if_any(problems: &[String]) -> Self {
        if problems.is_empty() {
            Self::ok()
        } else {
            Self::bad(Level::Warning, problems.join("; "))
        }
    }
}

fn manager(pods: &[Arc<Pod>], silence: Option<Duration>) -> Component {
    let pods: Vec<&Pod> = of_part(pods, |part| part == Part::Manager);
    if let Some(problem) = nobody_ready(&pods, "manager") {
        return Component::bad(Level::Critical, problem);
    }
    let mut problems: Vec<String> = not_ready(&pods).into_iter().collect();
    problems.extend(silence.map(|silence| {
        format!(
            "the API server has not been heard of for {} min; this is what was known then",
            silence.as_secs() / 60
        )
    }));
    Component::warning_if_any(&problems)
}

/// The pods that both planes are in.
struct Proxies<'a> {
    pods: Vec<&'a Pod>,
    /// How many nodes want an agent; none where there are to be none.
    wanted: Option<usize>,
    failed_hooks: Vec<&'a NodeHook>,
    /// Those that tell that something is not in order.
    troubled: Vec<&'a NodeHook>,
    unknown_hooks: Vec<&'a NodeHook>,
}

impl<'a> Proxies<'a> {
    fn of(pods: &'a [Arc<Pod>], wanted: Option<usize>, hooks: &'a NodeHooks) -> Self {
        let ready = |hook: &NodeHook| {
            pods.iter()
                .any(|pod| pod.part == Part::Agent && pod.ready && pod.place() == hook.place)
        };
        Self {
            pods: of_part(pods, |part| matches!(part, Part::Agent | Part::Fallback)),
            wanted,
            failed_hooks: hooks
                .iter()
                .filter(|hook| hook.state() == Some(HookState::Failed))
                .collect(),
            troubled: hooks.iter().filter(|hook| !hook.problems.is_empty()).collect(),
            // One that is not ready is told anyway.
            unknown_hooks: hooks
                .iter()
                .filter(|hook| hook.hook.is_none() && ready(hook))
                .collect(),
        }
    }

    fn component(&self) -> Component {
        if let Some(problem) = nobody_ready(&self.pods, "proxy") {
            return Component::bad(Level::Critical, problem);
        }
        let problems = not_ready(&self.pods)
            .into_iter()
            .chain(self.agents_missing())
            .chain(self.hook_problem())
            .chain(self.troubles());
        let component = Component::warning_if_any(&problems.collect::<Vec<_>>());
        component.with_remark(self.hooks_not_known())
    }

    fn with_places(&self) -> Component {
        let component = self.component();
        if component.status == Level::Ok {
            return component;
        }
        let unready = self.pods.iter().filter(|pod| !pod.ready).map(|pod| pod.place());
        let hookless = self.failed_hooks.iter().map(|hook| hook.place.clone());
        let troubled = self.troubled.iter().map(|hook| hook.place.clone());
        // Which nodes they would be on is not known here.
        let missing = self.agents_missing().map(|_| wanted::AGENTS.to_owned());
        let places: BTreeSet<String> = unready.chain(hookless).chain(troubled).chain(missing).collect();
        Component {
            affected_deployments: Some(places.into_iter().collect()),
            ..component
        }
    }

    /// Those of them that are there, but not ready, are told by their names.
    fn agents_missing(&self) -> Option<String> {
        let agents = self.pods.iter().filter(|pod| pod.part == Part::Agent);
        let nodes: BTreeSet<Option<&str>> = agents.map(|pod| pod.node.as_deref()).collect();
        match (self.wanted?, nodes.len()) {
            (0, 0) => Some("there is no agent pod, since no node fits them".to_owned()),
            (wanted, 0) => Some(format!("there is no agent pod, and {wanted} nodes want one")),
            (wanted, there) if there < wanted => Some(format!(
                "{} of {wanted} nodes have no agent pod, so their connections take the detour of the Services",
                wanted - there
            )),
            _ => None,
        }
    }

    /// They serve what they know, which may be old.
    fn troubles(&self) -> Option<String> {
        let told: BTreeSet<String> = self
            .troubled
            .iter()
            .map(|hook| format!("{} ({})", hook.place, hook.problems.join(", ")))
            .collect();
        let told: Vec<String> = told.into_iter().collect();
        (!told.is_empty()).then(|| format!("not everything is in order at {}", list(&told)))
    }

    /// Perhaps a network policy is in the way, and connections are redirected all the same.
    fn hooks_not_known(&self) -> Option<String> {
        let nodes: BTreeSet<&str> = self.unknown_hooks.iter().map(|hook| hook.node.as_str()).collect();
        let nodes: Vec<&str> = nodes.into_iter().collect();
        (!nodes.is_empty()).then(|| {
            format!(
                "it is not known how the hook is on {}, whose agents do not answer",
                list(&nodes)
            )
        })
    }

    fn hook_problem(&self) -> Option<String> {
        let nodes: BTreeSet<&str> = self.failed_hooks.iter().map(|hook| hook.node.as_str()).collect();
        if nodes.is_empty() {
            return None;
        }
        let nodes: Vec<&str> = nodes.into_iter().collect();
        Some(format!(
            "connections are not redirected by the hook on {}, they take the detour of the Services",
            list(&nodes)
        ))
    }
}

fn of_part(pods: &[Arc<Pod>], fits: impl Fn(Part) -> bool) -> Vec<&Pod> {
    pods.iter()
        .map(Arc::as_ref)
        .filter(|pod| fits(pod.part))
        .collect()
}

fn nobody_ready(pods: &[&Pod], what: &str) -> Option<String> {
    match pods.len() {
        0 => Some(format!("there is no {what} pod")),
        all if pods.iter().all(|pod| !pod.ready) => Some(format!("none of {all} {what} pods is ready")),
        _ => None,
    }
}

fn not_ready(pods: &[&Pod]) -> Option<String> {
    let places: Vec<String> = pods
        .iter()
        .filter(|pod| !pod.ready)
        .map(|pod| pod.place())
        .collect();
    (!places.is_empty()).then(|| {
        format!(
            "{} of {} pods not ready: {}",
            places.len(),
            pods.len(),
            list(&places)
        )
    })
}

/// So many are named; the rest is counted.
const NAMED: usize = 20;

fn list<T: AsRef<str>>(all: &[T]) -> String {
    let named: Vec<&str> = all.iter().take(NAMED).map(AsRef::as_ref).collect();
    match all.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

#[cfg(test)]
mod tests;
