//! The role `healthcheck`: how the installation is.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::time::timeout;

use super::in_cluster;
use crate::admin::Fact;
use crate::admin::probes::{Component, Probes};
use crate::cli;
use crate::cluster::client;
use crate::cluster::watch::{Report, Watches};
use crate::config::kubernetes::File;
use crate::health::{self, Installation};
use crate::lifecycle::drain::Drain;
use crate::lifecycle::readiness::Readiness;
use crate::lifecycle::supervisor::supervisor;
use crate::telemetry::registry::{Metrics, scopes};

/// As in the label of its pod.
const COMPONENT: &str = "healthcheck";

/// It goes on to tell what it knew, and says so; to be unreachable would be worse.
const SILENT_API_SERVER: Duration = Duration::from_hours(1);

/// So long after the signal the pages are still there: it takes a moment until nobody is led here
/// any more.
const LINGER: Duration = Duration::from_secs(5);

pub fn run(arguments: &cli::Healthcheck) -> anyhow::Result<ExitCode> {
    in_cluster::run(COMPONENT, &arguments.cluster, |settings| {
        serve(arguments, settings)
    })
}

async fn serve(arguments: &cli::Healthcheck, settings: File) -> anyhow::Result<ExitCode> {
    let drain = Drain::new();
    let readiness = Readiness::default();
    let starting = readiness.latch("start");
    let watches = Watches::default();
    in_cluster::serve_probes(arguments.cluster.probes, probes(&readiness, &watches), &drain)?;

    let client = client::connect(COMPONENT).await?;
    let config = health::Config {
        namespace: arguments.cluster.namespace.clone(),
        managed: settings.managed_namespaces_mode,
        agent_probes: arguments.agent_probes,
    };
    let (installation, watching) = Installation::watch(&client, &config, &watches);
    let (supervisor, mut broken) = supervisor();
    supervisor.spawn(watching);
    supervisor.spawn(watches.feed(&readiness, SILENT_API_SERVER));
    drop(starting);

    if settings.metrics.enabled {
        let mut metrics = Metrics::new();
        installation.register(metrics.scope(scopes::HEALTHCHECK));
        watches.register(metrics.root());
        metrics.register_process();
        in_cluster::serve_metrics(arguments.cluster.metrics, metrics, &drain)?;
    }
    let listener = in_cluster::bind(arguments.listen).context("the pages cannot be served")?;
    tokio::spawn(health::serve(listener, installation, drain.signal()));

    tokio::select! {
        asked = in_cluster::asked_to_stop() => asked?,
        message = broken.next() => bail!("a watch broke: {message}"),
    }
    drain.start();
    // A second signal is somebody who does not want to wait.
    let _ = timeout(LINGER, in_cluster::asked_again()).await;
    Ok(ExitCode::SUCCESS)
}

fn probes(readiness: &Readiness, watches: &Watches) -> Probes {
    let watches = watches.clone();
    Probes {
        readiness: readiness.clone(),
        component: Box::new(move || Component {
            component: COMPONENT.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            facts: watches.reports().iter().map(fact).collect(),
            ..Component::default()
        }),
    }
}

fn fact(watch: &Report) -> Fact {
    Fact {
        name: format!("watch on {}", watch.resource),
        value: watch.error.clone().unwrap_or_else(|| {
            let state = if watch.synced { "listed" } else { "not listed yet" };
            format!("{state}, heard of {} s ago", watch.since_event.as_secs())
        }),
        ok: watch.synced && watch.error.is_none(),
    }
}
