//! The eBPF hook of the role `run`, which is nothing without it.

use std::path::PathBuf;

use anyhow::Context as _;
use prometheus_client::metrics::gauge::Gauge;

use super::sandbox::Sandbox;
use crate::app::hook;
use crate::config::Scope;
use crate::datapath::cgroup::Mount;
use crate::datapath::{self, Datapath};
use crate::telemetry::registry::Metrics;

pub(super) struct Hook {
    hook: hook::Hook,
    effective: Gauge,
}

pub(super) fn options() -> datapath::Options {
    datapath::Options {
        kernel_log: true,
        ..datapath::Options::default()
    }
}

/// Where the hook belongs.
pub(super) fn cgroup(scope: &Scope, sandbox: Option<&Sandbox>) -> anyhow::Result<PathBuf> {
    match (scope, sandbox) {
        (Scope::Cgroup(path), _) => Ok(path.clone()),
        (_, Some(sandbox)) => Ok(sandbox.cgroup().to_owned()),
        (_, None) => Ok(Mount::find()?.mount_point),
    }
}

impl Hook {
    /// Attaches the programs; from here on connections arrive. Fails unless one really does.
    pub(super) async fn attach(
        mut datapath: Datapath,
        cgroup: PathBuf,
        effective: Gauge,
        metrics: &mut Metrics,
    ) -> anyhow::Result<Self> {
        datapath.counters().register(metrics.root());
        metrics.root().register(
            "hook_effective",
            "1 if the last self test saw its connection redirected, else 0",
            effective.clone(),
        );
        if let Some(log) = datapath.kernel_log()? {
            tokio::spawn(log.forward());
        }
        let mut hook = hook::Hook::new(datapath, cgroup);
        hook.attach().await.context("connections cannot be redirected")?;
        effective.set(1);
        Ok(Self { hook, effective })
    }

    pub(super) async fn prove(&mut self) {
        let proof = self.hook.prove().await;
        self.effective.set(i64::from(proof.is_ok()));
    }

    pub(super) fn stop_redirecting(&mut self) {
        self.hook.datapath.stop_redirecting();
    }
}
