//! What each role must be allowed to do, as the chart allows it.

use std::fmt;

use crate::cli::Part;
use crate::config::kubernetes::{File, ManagedNamespacesMode};
use crate::{health, manager};

/// Something that must be allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Right {
    pub(super) verb: &'static str,
    pub(super) group: &'static str,
    pub(super) resource: &'static str,
    pub(super) subresource: Option<&'static str>,
    /// None for all of them, as the next.
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
}

const DESTINATIONS: &str = "destination.connectivity.api.sap";
const LEASES: &str = "coordination.k8s.io";
const EVENTS: &str = "events.k8s.io";
const WATCH: [&str; 2] = ["list", "watch"];

/// Without Secrets, for which see [`secrets`].
pub(super) fn of(part: Part, namespace: &str, settings: &File) -> Vec<Right> {
    let mut all = Vec::new();
    let mut add = |verbs: &[&'static str], group, resource, namespace: Option<&str>| {
        all.extend(verbs.iter().map(|verb| Right {
            verb,
            group,
            resource,
            subresource: None,
            namespace: namespace.map(str::to_owned),
            name: None,
        }));
    };
    let here = Some(namespace);
    add(&WATCH, DESTINATIONS, "destinations", None);
    match part {
        Part::Agent | Part::Fallback => {
            add(&WATCH, "", "services", here);
            add(&WATCH, "", "pods", None);
        }
        Part::Manager => {
            add(&WATCH, "", "services", None);
            add(&["create", "patch", "delete"], "", "services", None);
            // Before it deletes a Service it asks whether the resource is really gone.
            add(&["get"], DESTINATIONS, "destinations", None);
            add(&["create"], LEASES, "leases", here);
            add(&["create"], EVENTS, "events", None);
        }
        Part::Healthcheck => {
            add(&WATCH, "", "services", here);
            add(&WATCH, "", "pods", here);
        }
        Part::Run => {}
    }
    let watches_namespaces = matches!(part, Part::Manager | Part::Healthcheck);
    if watches_namespaces && settings.managed_namespaces_mode == ManagedNamespacesMode::LabelSelector {
        add(&WATCH, "", "namespaces", None);
        if part == Part::Manager {
            add(&["get"], "", "namespaces", None);
        }
    }
    if part == Part::Healthcheck {
        // How many nodes want an agent.
        all.extend(WATCH.map(|verb| Right {
            verb,
            group: "apps",
            resource: "daemonsets",
            subresource: None,
            namespace: Some(namespace.to_owned()),
            name: Some(health::AGENTS.to_owned()),
        }));
    }
    if part == Part::Manager {
        all.push(Right {
            verb: "patch",
            group: DESTINATIONS,
            resource: "destinations",
            subresource: Some("status"),
            namespace: None,
            name: None,
        });
        all.extend(["get", "update"].map(|verb| Right {
            verb,
            group: LEASES,
            resource: "leases",
            subresource: None,
            namespace: Some(namespace.to_owned()),
            name: Some(manager::NAME.to_owned()),
        }));
    }
    all
}

/// To read destinations: in the installation namespace and in those of the settings.
pub(super) fn secrets(part: Part, namespace: &str, settings: &File) -> Vec<Right> {
    if !matches!(part, Part::Agent | Part::Fallback | Part::Manager) {
        return Vec::new();
    }
    let namespaces = std::iter::once(namespace).chain(settings.secrets.namespaces.iter().map(String::as_str));
    let right = |namespace: &str, verb| Right {
        verb,
        group: "",
        resource: "secrets",
        subresource: None,
        namespace: Some(namespace.to_owned()),
        name: None,
    };
    namespaces
        .flat_map(|namespace| WATCH.map(|verb| right(namespace, verb)))
        .collect()
}

/// To read the one Secret with authorities that are trusted in addition.
pub(super) fn authorities(part: Part, settings: &File) -> Vec<Right> {
    if !matches!(part, Part::Agent | Part::Fallback) {
        return Vec::new();
    }
    let secrets = settings.additional_cas.iter();
    let rights = secrets.flat_map(|cas| {
        WATCH.map(|verb| Right {
            verb,
            group: "",
            resource: "secrets",
            subresource: None,
            namespace: Some(cas.namespace.clone()),
            name: Some(cas.secret.clone()),
        })
    });
    rights.collect()
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if let Some(subresource) = self.subresource {
            write!(f, "/{subresource}")?;
        }
        if let Some(name) = &self.name {
            write!(f, " {name}")?;
        }
        match &self.namespace {
            Some(namespace) => write!(f, " in {namespace}"),
            None => f.write_str(" in all namespaces"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::kubernetes::AdditionalCas;

    fn told(rights: &[Right]) -> String {
        rights.iter().map(Right::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn each_role_needs_what_it_does() {
        let mut settings = File {
            managed_namespaces_mode: ManagedNamespacesMode::LabelSelector,
            ..File::default()
        };
        settings.secrets.namespaces = vec!["shop".into()];
        settings.additional_cas = Some(AdditionalCas {
            namespace: "trust".into(),
            secret: "authorities".into(),
            key: "ca.crt".into(),
        });
        let all = [Part::Agent, Part::Fallback, Part::Manager, Part::Healthcheck].map(|part| {
            let all = [
                of(part, "tp", &settings),
                secrets(part, "tp", &settings),
                authorities(part, &settings),
            ];
            format!("{part:?}\n{}", told(&all.concat()))
        });
        insta::assert_snapshot!(all.join("\n\n"));
    }

    #[test]
    fn where_all_namespaces_are_managed_nobody_looks_at_them() {
        let rights = of(Part::Manager, "tp", &File::default());
        assert!(rights.iter().all(|right| right.resource != "namespaces"));
    }
}
