//! The eBPF hook while the role `run` lives: attached last, proven at once and every minute, off first.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tracing::{error, info};

use super::sandbox::Sandbox;
use crate::config::{self, Scope};
use crate::datapath::cgroup::Mount;
use crate::datapath::self_test::SelfTest;
use crate::datapath::{self, Datapath};
use crate::telemetry::registry::Metrics;

const PROOF_INTERVAL: Duration = Duration::from_mins(1);

pub(super) struct Hook {
    datapath: Datapath,
    test: SelfTest,
    cgroup: PathBuf,
    effective: Gauge,
}

pub(super) fn options(config: &config::Run) -> datapath::Options {
    datapath::Options {
        kernel_log: config.logging.level == tracing::Level::TRACE,
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

/// First tick after one interval: the start has proven the hook already.
pub(super) fn interval() -> Interval {
    let mut interval = tokio::time::interval_at(Instant::now() + PROOF_INTERVAL, PROOF_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
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
        datapath.attach(&cgroup)?;
        let test = SelfTest::new(datapath.virtual_ips(), Some(cgroup.clone()));
        test.run_once()
            .await
            .context("the hook is attached, but does not work")?;
        effective.set(1);
        info!(cgroup = %cgroup.display(), "connections are redirected");
        Ok(Self {
            datapath,
            test,
            cgroup,
            effective,
        })
    }

    /// Tries the hook; attaches it anew if its cgroup was removed and made again.
    pub(super) async fn prove(&mut self) {
        let mut proof = self.test.run_once().await;
        if proof.is_err() && self.reattach() {
            proof = self.test.run_once().await;
        }
        self.effective.set(i64::from(proof.is_ok()));
        if let Err(error) = proof {
            error!(cgroup = %self.cgroup.display(), %error, "connections are not redirected");
        }
    }

    fn reattach(&mut self) -> bool {
        self.datapath.detach();
        match self.datapath.attach(&self.cgroup) {
            Ok(()) => true,
            Err(error) => {
                error!(cgroup = %self.cgroup.display(), %error, "the hook cannot be attached again");
                false
            }
        }
    }

    pub(super) fn stop_redirecting(&mut self) {
        self.datapath.stop_redirecting();
    }
}
