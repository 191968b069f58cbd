//! What an agent tells `explain` and `connections`: all that it knows of one Destination CR.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::board::Board;
use super::callers::Callers;
use super::feeds::Known;
use super::hook::HookState;
use super::pod_table::PodTable;
use super::refusals::{At, Reason, RefusalLog, Remembered};
use super::remember::Missing;
use crate::accept::Exceeded;
use crate::admin::explain as told;
use crate::admin::socket::Answers;
use crate::api::destination::{ANY_DESTINATION, Scope};
use crate::api::labels;
use crate::cluster::watch::Watches;
use crate::config::kubernetes::{File, ManagedNamespacesMode};
use crate::flow::{Step, Steps};
use crate::resolve::check::Obstacle;
use crate::resolve::destination::Protocol;
use crate::resolve::directory::{Cr, CrName, Entrance, Speaks};
use crate::resolve::pods::PodUid;
use crate::resolve::scope::{Refused, Unknown};
use crate::resolve::source::secrets::{FindError, Query, Reader, Trouble};
use crate::telemetry::connections::{Connections, Snapshot};

/// Where it looks.
pub(super) struct Everything {
    pub(super) node: String,
    pub(super) pod: String,
    pub(super) fallback: bool,
    /// Namespace of the installation.
    pub(super) installation: String,
    /// Where Secrets are destinations.
    pub(super) secret_namespaces: Vec<String>,
    pub(super) settings: Arc<File>,
    pub(super) hook: HookState,
    pub(super) watches: Watches,
    pub(super) missing: Missing,
    pub(super) known: Known,
    pub(super) board: Board,
    pub(super) destinations: Reader,
    /// Pods of this node.
    pub(super) pods: PodTable,
    pub(super) callers: Arc<Callers>,
    pub(super) refusals: RefusalLog,
    pub(super) connections: Connections,
}

impl Answers for Everything {
    fn explain(&self, namespace: &str, name: &str) -> told::Report {
        let asked = CrName {
            namespace: namespace.into(),
            name: name.into(),
        };
        let (cr, entrances, same_name_in) = self.known.look(|directory| {
            let others = directory
                .crs()
                .filter(|cr| cr.name.name == asked.name && cr.name != asked);
            let others: Vec<String> = others.map(|cr| cr.name.namespace.to_string()).collect();
            (
                directory.cr(&asked).cloned(),
                directory.entrances_of(&asked),
                others,
            )
        });
        told::Report {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            agent: self.agent(),
            resource: cr.as_deref().map(|cr| told::Resource {
                destination: cr.destination().to_owned(),
                scope: self.scope(cr),
                broken: cr.broken.clone(),
            }),
            same_name_in,
            services: entrances.iter().map(|entrance| self.service(entrance)).collect(),
            destination: cr
                .as_deref()
                .map_or(told::Destination::Unknown, |cr| self.destination(cr)),
            callers: cr.as_deref().map_or_else(Vec::new, |cr| self.may_connect(cr)),
            refusals: self.refusals.of(&asked).into_iter().map(refusal).collect(),
            counters: self.counters(&asked, &entrances),
            limits: self.limits(&entrances),
            times: self.times(&entrances),
        }
    }

    fn connections(&self) -> Vec<Snapshot> {
        self.connections.snapshot()
    }
}

impl Everything {
    fn agent(&self) -> told::Agent {
        let silent = self.watches.relied_on().map(|report| report.since_event).max();
        told::Agent {
            node: self.node.clone(),
            pod: self.pod.clone(),
            fallback: self.fallback,
            hook: self.hook.hook(),
            self_test: self.hook.tested().map(|(ago, error)| told::SelfTest {
                seconds_ago: ago.as_secs(),
                error,
            }),
            api_server: told::ApiServer {
                listed: self.missing.now().is_empty(),
                silent_seconds: silent.map_or(0, |silent| silent.as_secs()),
                problem: self.watches.relied_on().find_map(|report| report.error),
            },
            namespace_label: self.namespace_label(),
        }
    }

    fn namespace_label(&self) -> Option<String> {
        let by_label = self.settings.managed_namespaces_mode == ManagedNamespacesMode::LabelSelector;
        by_label.then(|| format!("{}={}", labels::NAMESPACE, self.installation))
    }

    fn scope(&self, cr: &Cr) -> Scope {
        cr.scope(self.settings.default_scope)
    }

    fn service(&self, entrance: &Entrance) -> told::Service {
        let kernel = entrance.addresses.iter().filter_map(|address| {
            let virtual_address = SocketAddr::new(*address, entrance.port);
            let route = self.board.route(virtual_address)?;
            Some(told::KernelEntry {
                virtual_address,
                redirected_to: route.map(|(proxy, _)| proxy),
                namespace_number: route.map_or(0, |(_, namespace)| namespace.0),
            })
        });
        told::Service {
            name: entrance.service.to_string(),
            addresses: entrance.addresses.to_vec(),
            port: entrance.port,
            target_port: entrance.target_port,
            protocol: match entrance.speaks {
                Speaks::Http => "http",
                Speaks::Tcp => "tcp",
            }
            .into(),
            listener: match self.board.way(&entrance.service) {
                Some(Ok(_way)) => told::Listener::Open,
                Some(Err(reason)) => told::Listener::Failed { reason },
                None => told::Listener::Failed {
                    reason: "the destination is not served yet".into(),
                },
            },
            kernel: kernel.collect(),
        }
    }

    fn destination(&self, cr: &Cr) -> told::Destination {
        if cr.broken.is_some() {
            return told::Destination::Unknown;
        }
        if let Some(obstacle) = Obstacle::of(&cr.resource(), &self.settings) {
            return told::Destination::NotSupported {
                what: obstacle.to_string(),
            };
        }
        let name = cr.destination();
        if name == ANY_DESTINATION {
            return told::Destination::Gateway;
        }
        let query = Query {
            destination: name,
            cr_namespace: &cr.name.namespace,
        };
        let source = || match self.destinations.secret(name) {
            Some(secret) => format!("the Secret {secret}"),
            None => "what was known before the restart".into(),
        };
        match self.destinations.find(&query) {
            Ok(destination) => told::Destination::Found {
                target: target(&destination.protocol),
                source: source(),
                warnings: destination
                    .warnings
                    .iter()
                    .map(ToString::to_string)
                    .chain(self.unused(name))
                    .collect(),
            },
            Err(FindError::NotFound) => told::Destination::NotFound {
                searched: self.searched(),
            },
            Err(FindError::Invalid(refused)) => told::Destination::Invalid {
                source: source(),
                problems: refused.problems.iter().map(ToString::to_string).collect(),
            },
            Err(FindError::NotLoaded) => told::Destination::NotLoaded,
        }
    }

    /// Other Secrets that want to be the same destination.
    fn unused(&self, destination: &str) -> impl Iterator<Item = String> {
        let reports = self.destinations.reports().into_iter();
        let of = reports.filter(move |report| *report.destination == *destination);
        of.filter_map(|report| match report.trouble {
            Trouble::Taken(winner) => Some(format!(
                "the Secret {} has the same name and is not used, since {winner} is older",
                report.secret
            )),
            Trouble::Refused(_) => None,
        })
    }

    fn searched(&self) -> String {
        format!(
            "the Secrets with the label {} in {}",
            labels::DESTINATION,
            self.secret_namespaces.join(", ")
        )
    }

    /// Pods of this node, as far as they are watched.
    fn may_connect(&self, cr: &Cr) -> Vec<told::Caller> {
        let everybody = self.scope(cr) == Scope::ClusterWide;
        let known: HashSet<PodUid> = self.callers.known_to_kernel();
        let pods = self.pods.read();
        let of = pods
            .all()
            .filter(|pod| !pod.ended && (everybody || pod.namespace == cr.name.namespace));
        let caller = |pod: &Arc<crate::resolve::pods::Pod>| told::Caller {
            namespace: pod.namespace.to_string(),
            pod: pod.name.to_string(),
            known_to_kernel: known.contains(&pod.uid)
                || pod.cgroup_uid.is_some_and(|uid| known.contains(&uid)),
        };
        let mut callers: Vec<_> = of.map(caller).collect();
        callers.sort_by(|one, other| (&one.namespace, &one.pod).cmp(&(&other.namespace, &other.pod)));
        callers
    }

    /// Of the first Service, which is the only one unless there are tenants.
    fn times(&self, entrances: &[Arc<Entrance>]) -> told::Times {
        let mut ways = entrances
            .iter()
            .filter_map(|entrance| self.board.way(&entrance.service)?.ok());
        let behalf = ways
            .next()
            .and_then(|way| way.endpoint.parts().http.behalf.clone());
        behalf.map_or_else(told::Times::default, |behalf| times(&behalf.steps))
    }

    /// Those of one CR are all of the same plane.
    fn limits(&self, entrances: &[Arc<Entrance>]) -> Option<told::Limits> {
        let mut ways = entrances
            .iter()
            .filter_map(|entrance| self.board.way(&entrance.service)?.ok());
        let usage = ways.next()?.usage();
        Some(told::Limits {
            open: usage.open as u64,
            at_most: usage.at_most.map(|at_most| at_most as u64),
        })
    }

    fn counters(&self, cr: &CrName, entrances: &[Arc<Entrance>]) -> told::Counters {
        let ways = entrances
            .iter()
            .filter_map(|entrance| self.board.way(&entrance.service)?.ok());
        let mut counters = told::Counters {
            refused: self.refusals.count(cr),
            ..told::Counters::default()
        };
        for way in ways {
            counters.connections += way.admitted();
            counters.open_connections += way.open() as u64;
            counters.waits += way.waits();
            if let Some(behalf) = &way.endpoint.parts().http.behalf {
                counters.requests += behalf.requests();
                counters.errors += behalf.errors();
            }
        }
        counters
    }
}

fn refusal(remembered: Remembered) -> told::Refusal {
    let refusal = remembered.refusal;
    told::Refusal {
        seconds_ago: seconds(remembered.last.elapsed()),
        who: refusal.caller,
        reason: reason(refusal.reason),
        times: remembered.times,
        at_connect: refusal.at == At::Connect,
    }
}

fn reason(reason: Reason) -> told::Reason {
    match reason {
        Reason::Scope(Refused::OtherNamespace) => told::Reason::OtherNamespace,
        Reason::Scope(Refused::Unknown(Unknown::NodeProcess)) => told::Reason::NodeProcess,
        Reason::Scope(Refused::Unknown(Unknown::Pod)) => told::Reason::UnknownPod,
        Reason::Scope(Refused::Unknown(Unknown::SharedAddress)) => told::Reason::SharedAddress,
        Reason::Scope(Refused::Unknown(Unknown::Address)) => told::Reason::UnknownAddress,
        Reason::Port => told::Reason::Port,
        Reason::Udp => told::Reason::Udp,
        Reason::Limit(Exceeded::PerSource) => told::Reason::PerSource,
        Reason::Limit(Exceeded::Total) => told::Reason::Total,
        Reason::TargetPortOfTwo => told::Reason::TargetPortOfTwo,
    }
}

fn times(steps: &Steps) -> told::Times {
    let took = |step: &Step| {
        let took = step.so_far()?;
        Some(told::Took {
            count: took.count,
            average_milliseconds: milliseconds(took.average),
            longest_milliseconds: milliseconds(took.longest),
        })
    };
    told::Times {
        caller: took(&steps.caller),
        credentials: took(&steps.credentials),
        connect: took(&steps.connect),
        answer: took(&steps.answer),
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn seconds(duration: Duration) -> u64 {
    duration.as_secs()
}

/// `https://host, BasicAuthentication`
fn target(protocol: &Protocol) -> String {
    match protocol.authentication() {
        Some(authentication) => format!("{}, {authentication}", protocol.target()),
        None => protocol.target(),
    }
}
