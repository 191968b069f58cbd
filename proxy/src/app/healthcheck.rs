//! The role `healthcheck`: how the installation is.

use std::process::ExitCode;

use super::in_cluster;
use crate::admin::probes::{Component, Probes};
use crate::cli;
use crate::config::kubernetes::File;
use crate::lifecycle::drain::Drain;
use crate::lifecycle::readiness::Readiness;
use crate::telemetry::registry::Metrics;

/// As in the label of its pod.
const COMPONENT: &str = "healthcheck";

pub fn run(arguments: &cli::Healthcheck) -> anyhow::Result<ExitCode> {
    in_cluster::run(COMPONENT, &arguments.cluster, |settings| {
        serve(arguments, settings)
    })
}

async fn serve(arguments: &cli::Healthcheck, settings: File) -> anyhow::Result<ExitCode> {
    let drain = Drain::new();
    let readiness = Readiness::default();
    let probes = Probes {
        readiness: readiness.clone(),
        component: Box::new(|| Component {
            component: COMPONENT.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            ..Component::default()
        }),
    };
    in_cluster::serve_probes(arguments.cluster.probes, probes, &drain)?;
    if settings.metrics.enabled {
        let mut metrics = Metrics::new();
        metrics.register_process();
        in_cluster::serve_metrics(arguments.cluster.metrics, metrics, &drain)?;
    }
    in_cluster::asked_to_stop().await?;
    Ok(ExitCode::SUCCESS)
}
