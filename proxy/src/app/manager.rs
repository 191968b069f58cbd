//! The role `manager`: Destination CRs become Services.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use kube::Client;
use tracing::error;

use super::in_cluster;
use crate::admin::Fact;
use crate::admin::probes::{Component, Probes};
use crate::cli;
use crate::cluster::watch::{Report, Task, Watches};
use crate::cluster::{client, dns};
use crate::config::kubernetes::File;
use crate::lifecycle::drain::Drain;
use crate::lifecycle::readiness::Readiness;
use crate::manager::{self, Config, Destinations, Installation, Manager};
use crate::resolve::source::secrets;
use crate::telemetry::registry::Metrics;

/// As in the label of its pod.
const COMPONENT: &str = "manager";

/// How long the API server may be away before the manager is not ready: nobody's traffic depends on
/// that, but operators should see it.
const SILENT: Duration = Duration::from_mins(10);

pub fn run(arguments: &cli::InCluster) -> anyhow::Result<ExitCode> {
    in_cluster::run(COMPONENT, arguments, |settings| serve(arguments, settings))
}

async fn serve(arguments: &cli::InCluster, settings: File) -> anyhow::Result<ExitCode> {
    let client = client::connect(COMPONENT).await?;
    let drain = Drain::new();
    let readiness = Readiness::default();
    let watches = Watches::default();
    let counted = manager::Metrics::default();
    let (destinations, feeding) = destinations(arguments, &settings, &client, &watches);
    let secrets = destinations.secrets.clone();
    let manager = Manager::new(
        config(arguments, &settings),
        &client,
        &watches,
        destinations,
        feeding,
        counted.clone(),
    );
    tokio::spawn(watches.feed(&readiness, SILENT));
    let probes = probes(readiness, &manager, &watches, secrets);
    in_cluster::serve_probes(arguments.probes, probes, &drain)?;
    if settings.metrics.enabled {
        let mut metrics = Metrics::new();
        metrics.register_process();
        watches.register(metrics.root());
        counted.register(metrics.root());
        in_cluster::serve_metrics(arguments.metrics, metrics, &drain)?;
    }
    manager
        .run(async {
            if let Err(error) = in_cluster::asked_to_stop().await {
                error!(%error, "signals cannot be received, stopping");
            }
        })
        .await?;
    Ok(ExitCode::SUCCESS)
}

fn config(arguments: &cli::InCluster, settings: &File) -> Config {
    let domain = settings.cluster_domain.as_deref();
    Config {
        installation: Installation {
            namespace: arguments.namespace.clone(),
            domain: dns::cluster_domain(domain, Path::new(dns::RESOLVER_CONFIGURATION)),
        },
        pod: arguments.pod.clone(),
        managed_namespaces: settings.managed_namespaces_mode,
        target_ports: settings.target_ports.range(),
        interval: settings.execution_interval_minutes.duration(),
    }
}

/// The Secrets that are destinations, and what reads them.
fn destinations(
    arguments: &cli::InCluster,
    settings: &File,
    client: &Client,
    watches: &Watches,
) -> (Destinations, Vec<Task>) {
    let namespaces = settings.secrets.namespaces_with(&arguments.namespace);
    let (writer, secrets) = secrets::store(namespaces.iter().cloned());
    let namespaces = namespaces.iter().map(String::as_str);
    let feeding = secrets::feed(client, watches, &arguments.namespace, namespaces, writer);
    let settings = settings.clone();
    (Destinations { secrets, settings }, feeding)
}

fn probes(
    readiness: Readiness,
    manager: &Manager,
    watches: &Watches,
    destinations: secrets::Reader,
) -> Probes {
    let (leads, watches) = (manager.leading(), watches.clone());
    Probes {
        readiness,
        component: Box::new(move || Component {
            component: COMPONENT.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            facts: facts(leads(), &watches, &destinations),
            ..Component::default()
        }),
    }
}

fn facts(leads: bool, watches: &Watches, destinations: &secrets::Reader) -> Vec<Fact> {
    let leader = Fact {
        name: "leader".to_owned(),
        value: if leads { "yes" } else { "no" }.to_owned(),
        ok: true,
    };
    let watched = watches.reports().into_iter().map(|report| fact(&report));
    let refused = in_cluster::refused_secrets(destinations);
    std::iter::once(leader).chain(watched).chain([refused]).collect()
}

fn fact(report: &Report) -> Fact {
    let since = report.since_event.as_secs();
    Fact {
        name: format!("watch on {}", report.resource),
        value: match (&report.error, report.synced) {
            (Some(error), _) => format!("{error}; last heard {since} s ago"),
            (None, true) => format!("last heard {since} s ago"),
            (None, false) => "listing".to_owned(),
        },
        ok: report.error.is_none() && report.synced,
    }
}
