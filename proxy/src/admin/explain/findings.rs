//! What a report means: one finding per step, in the order in which a connection takes them.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Destination, Limits, Listener, Report, Service};
use crate::admin::probes::HookState;
use crate::api::destination::Scope;

/// API servers send something every minute.
const WORRYING_SILENCE: u64 = 150;

/// The self test runs every minute.
const OLD_TEST: u64 = 150;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub step: String,
    pub state: State,
    pub text: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Ok,
    /// It works, but not everything or not as well.
    Warning,
    /// It does not work.
    Failed,
}

impl Finding {
    fn new(step: &str, state: State, text: impl Into<String>) -> Self {
        Self {
            step: step.to_owned(),
            state,
            text: text.into(),
            remedy: None,
        }
    }

    pub(super) fn ok(step: &str, text: impl Into<String>) -> Self {
        Self::new(step, State::Ok, text)
    }

    pub(super) fn warning(step: &str, text: impl Into<String>) -> Self {
        Self::new(step, State::Warning, text)
    }

    fn failed(step: &str, text: impl Into<String>) -> Self {
        Self::new(step, State::Failed, text)
    }

    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

impl Report {
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings: Vec<Finding> = self.knowledge().into_iter().collect();
        findings.push(self.resource_found());
        if self
            .resource
            .as_ref()
            .is_some_and(|resource| resource.broken.is_none())
        {
            findings.push(self.service_found());
            findings.extend(self.services.iter().filter_map(listening));
            findings.push(self.hook());
            findings.extend(self.services.iter().flat_map(|service| self.redirected(service)));
            findings.push(self.scope());
            findings.push(self.destination_found());
            findings.extend(self.speed());
        }
        findings.extend(self.room());
        findings.extend(self.refused());
        findings
    }

    /// The worst of all.
    pub fn verdict(&self) -> State {
        let states = self.findings().into_iter().map(|finding| finding.state);
        states.max().unwrap_or(State::Ok)
    }

    /// Only told where it is not current.
    fn knowledge(&self) -> Option<Finding> {
        const STEP: &str = "API server";
        let remedy = "see whether the API server answers, and what this pod logs about watches; until then \
                      destinations are served as they were known last";
        let api_server = &self.agent.api_server;
        let because = api_server
            .problem
            .as_ref()
            .map_or_else(String::new, |problem| format!(": {problem}"));
        let text = if !api_server.listed {
            format!("this agent has not read everything since it started{because}")
        } else if api_server.silent_seconds > WORRYING_SILENCE {
            let silent = ago(api_server.silent_seconds);
            format!("nothing was heard of it for {silent}{because}")
        } else {
            return None;
        };
        Some(Finding::warning(STEP, text).remedy(remedy))
    }

    fn resource_found(&self) -> Finding {
        const STEP: &str = "Destination resource";
        let Self { namespace, name, .. } = self;
        let Some(resource) = &self.resource else {
            let others = match &self.same_name_in[..] {
                [] => String::new(),
                others => format!("; there is one of that name in {}", list(others)),
            };
            return Finding::failed(
                STEP,
                format!("there is none that is called {namespace}/{name}{others}"),
            )
            .remedy("see `kubectl get destinations --all-namespaces`");
        };
        if let Some(why) = &resource.broken {
            let text = format!("it is not understood, so nothing is served for it: {why}");
            return Finding::failed(STEP, text).remedy(
                "change it; where it is right, its definition is of a newer version than this agent: upgrade",
            );
        }
        if resource.destination == crate::api::destination::ANY_DESTINATION {
            return Finding::ok(
                STEP,
                "it is a gateway: each request says which destination it means",
            );
        }
        Finding::ok(
            STEP,
            format!("it means the destination {:?}", resource.destination),
        )
    }

    fn service_found(&self) -> Finding {
        const STEP: &str = "Service";
        let (namespace, name) = (&self.namespace, &self.name);
        if self.services.is_empty() {
            let finding = Finding::failed(STEP, "none was made for it, so its name leads nowhere");
            let condition = format!(
                "`kubectl describe destination {name} --namespace {namespace}` says why in the condition Available; \
                 where that is empty, see whether the manager runs"
            );
            return finding.remedy(match &self.agent.namespace_label {
                Some(label) => format!(
                    "{condition}, and with `kubectl get namespace {namespace} --show-labels` whether it has the \
                     label {label}: without that, nothing is made for what is in it"
                ),
                None => condition,
            });
        }
        let all: Vec<String> = self.services.iter().map(described).collect();
        Finding::ok(STEP, all.join("; "))
    }

    fn hook(&self) -> Finding {
        const STEP: &str = "hook";
        let agent = &self.agent;
        if agent.fallback {
            return Finding::ok(STEP, "this is a fallback: it serves what arrives by the Services");
        }
        let cgroup = agent.hook.cgroup.as_deref().unwrap_or("an unknown cgroup");
        match (agent.hook.state, &agent.self_test) {
            (HookState::Off, _) => Finding::ok(STEP, "it is off: connections arrive by the Services"),
            (HookState::Failed, test) => {
                let by_test = test.as_ref().and_then(|test| test.error.as_deref());
                let reason = agent
                    .hook
                    .reason
                    .as_deref()
                    .or(by_test)
                    .unwrap_or("no reason is known");
                let text = format!(
                    "connections of pods on {} are not redirected: {reason}",
                    agent.node
                );
                Finding::warning(STEP, text).remedy(
                    "run `transparent-proxy doctor` in this pod; until then connections arrive by the Services, \
                     if a fallback is there",
                )
            }
            (HookState::Working, Some(test)) if test.error.is_some() || test.seconds_ago > OLD_TEST => {
                let age = ago(test.seconds_ago);
                let text = match &test.error {
                    Some(error) => {
                        format!("attached to {cgroup}, but the self test {age} ago failed: {error}")
                    }
                    None => format!("attached to {cgroup}, but the last self test was {age} ago"),
                };
                Finding::warning(STEP, text).remedy("run `transparent-proxy doctor` in this pod")
            }
            (HookState::Working, Some(test)) => Finding::ok(
                STEP,
                format!(
                    "attached to {cgroup}; the self test {} ago was redirected",
                    ago(test.seconds_ago)
                ),
            ),
            (HookState::Working, None) => Finding::ok(STEP, format!("attached to {cgroup}")),
        }
    }

    /// Whether the kernel knows all virtual IPs of a Service.
    fn redirected(&self, service: &Service) -> Vec<Finding> {
        const STEP: &str = "redirection";
        if self.agent.fallback || self.agent.hook.state != HookState::Working {
            return Vec::new();
        }
        let entry = |address: &IpAddr| {
            let mut entries = service.kernel.iter();
            entries.find(|entry| {
                entry.virtual_address.ip() == *address && entry.virtual_address.port() == service.port
            })
        };
        let mut findings = Vec::new();
        for address in &service.addresses {
            let at = std::net::SocketAddr::new(*address, service.port);
            let to = entry(address).and_then(|entry| entry.redirected_to);
            findings.push(match to {
                None => Finding::warning(
                    STEP,
                    format!("the kernel does not know {at}, so connections to it arrive by the Service"),
                )
                .remedy("see what this pod logs about virtual IPs"),
                Some(to) if to.port() != service.target_port => Finding::failed(
                    STEP,
                    format!(
                        "{at} leads to {to}, but the Service says port {}",
                        service.target_port
                    ),
                )
                .remedy("restart this pod, and report this"),
                Some(to) => Finding::ok(STEP, format!("{at} leads to {to}")),
            });
        }
        findings
    }

    fn scope(&self) -> Finding {
        const STEP: &str = "scope";
        if self
            .resource
            .as_ref()
            .is_some_and(|resource| resource.scope == Scope::ClusterWide)
        {
            return Finding::ok(STEP, "everybody in the cluster may connect");
        }
        let namespace = &self.namespace;
        let only = format!("only pods of the namespace {namespace} may connect");
        if self.agent.fallback {
            return Finding::ok(STEP, only);
        }
        let pods: Vec<&str> = self.callers.iter().map(|caller| caller.pod.as_str()).collect();
        if pods.is_empty() {
            return Finding::ok(STEP, format!("{only}; none is on {}", self.agent.node));
        }
        let unknown: Vec<&str> = self
            .callers
            .iter()
            .filter(|caller| !caller.known_to_kernel)
            .map(|caller| caller.pod.as_str())
            .collect();
        let here = format!("{only}; on {}: {}", self.agent.node, list(&pods));
        if unknown.is_empty() || self.agent.hook.state != HookState::Working {
            return Finding::ok(STEP, here);
        }
        Finding::ok(
            STEP,
            format!(
                "{here}; the proxy itself decides about {}, which the kernel does not know yet",
                list(&unknown)
            ),
        )
    }

    fn destination_found(&self) -> Finding {
        const STEP: &str = "destination";
        let named = self
            .resource
            .as_ref()
            .map_or("", |resource| resource.destination.as_str());
        match &self.destination {
            Destination::Found {
                target,
                source,
                warnings,
            } if warnings.is_empty() => Finding::ok(STEP, format!("{target}, from {source}")),
            Destination::Found {
                target,
                source,
                warnings,
            } => Finding::warning(STEP, format!("{target}, from {source}; {}", warnings.join("; ")))
                .remedy("correct what is named, if it was meant differently"),
            Destination::Gateway => Finding::ok(STEP, "the one that a request names in X-Destination-Name"),
            Destination::NotFound { searched } => Finding::failed(
                STEP,
                format!("there is none that is called {named:?} among {searched}"),
            )
            .remedy("create it, or correct `spec.destinationRef.name`"),
            Destination::Invalid { source, problems } => {
                Finding::failed(STEP, format!("{source} cannot be used: {}", problems.join("; ")))
                    .remedy("correct it; a change is live within seconds")
            }
            Destination::NotLoaded => {
                Finding::failed(STEP, "the sources of destinations have not been read yet")
                    .remedy("see what this pod logs about watches on Secrets")
            }
            Destination::NotSupported { what } => {
                Finding::failed(STEP, what.clone()).remedy("change the Destination resource")
            }
            Destination::Unknown => Finding::failed(STEP, "nothing is known of it"),
        }
    }

    /// Only told where connections had to wait, or have to now.
    fn room(&self) -> Option<Finding> {
        let Limits { open, at_most } = self.limits?;
        let is_full = at_most.is_some_and(|at_most| open >= at_most);
        let waits = self.counters.waits;
        if waits == 0 && !is_full {
            return None;
        }
        let limit = at_most.map_or_else(String::new, |at_most| format!(", at most {at_most}"));
        let text = format!(
            "connections had to wait for room {waits} times; {open} of this kind are open now to all \
             destinations{limit}"
        );
        Some(Finding::warning("room", text).remedy(
            "see `transparent-proxy connections` for who keeps so many; the limits follow the open files and the \
             memory that this pod may use",
        ))
    }
}

fn listening(service: &Service) -> Option<Finding> {
    let Listener::Failed { reason } = &service.listener else {
        return None;
    };
    let text = format!(
        "nobody listens at port {} for {}: {reason}",
        service.target_port, service.name
    );
    Some(Finding::failed("listener", text).remedy("see what else uses the port in this pod, or restart it"))
}

fn described(service: &Service) -> String {
    let addresses: Vec<String> = service.addresses.iter().map(IpAddr::to_string).collect();
    format!(
        "{} ({}) at {}, port {}, target port {}",
        service.name,
        service.protocol,
        list(&addresses),
        service.port,
        service.target_port
    )
}

/// So many are named; the rest is counted.
const NAMED: usize = 5;

pub(super) fn list<T: AsRef<str>>(all: &[T]) -> String {
    let named: Vec<&str> = all.iter().take(NAMED).map(AsRef::as_ref).collect();
    let text = named.join(", ");
    match all.len().saturating_sub(NAMED) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

pub(super) fn ago(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}
