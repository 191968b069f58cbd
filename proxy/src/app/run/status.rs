//! The admin server of the role `run`: metrics, and a page that tells what is served.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use prometheus_client::metrics::gauge::Gauge;

use super::table::Row;
use crate::accept;
use crate::admin::{self, Admin, DestinationRow, Fact, Status};
use crate::lifecycle::drain::Drain;
use crate::lifecycle::readiness::Readiness;
use crate::telemetry::connections::Connections;
use crate::telemetry::logging::LogControl;
use crate::telemetry::registry::Metrics;

/// What the page shows beside the metrics; clones share it.
#[derive(Clone, Default)]
pub(super) struct Page {
    rows: Arc<ArcSwap<Vec<DestinationRow>>>,
    pub(super) hook_effective: Gauge,
    pub(super) connections: Connections,
    pub(super) readiness: Readiness,
}

impl Page {
    pub(super) fn show(&self, rows: &[Row]) {
        self.rows.store(Arc::new(rows.iter().map(destination).collect()));
    }

    fn status(&self) -> Status {
        let effective = self.hook_effective.get() == 1;
        Status {
            role: "run".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            facts: vec![Fact {
                name: "connections are redirected".into(),
                value: if effective {
                    "yes, as the last self test saw"
                } else {
                    "no"
                }
                .into(),
                ok: effective,
            }],
            destinations: self.rows.load().as_ref().clone(),
        }
    }

    /// Serves from now on, also while the process drains.
    pub(super) fn serve(
        &self,
        address: SocketAddr,
        metrics: Metrics,
        log: LogControl,
        drain: &Drain,
    ) -> anyhow::Result<()> {
        let listener = accept::bind(address)
            .with_context(|| format!("--metrics {address}: the address cannot be used"))?;
        let page = self.clone();
        let admin = Admin {
            metrics: Arc::new(metrics),
            connections: self.connections.clone(),
            readiness: self.readiness.clone(),
            log,
            status: Box::new(move || page.status()),
        };
        tokio::spawn(admin::serve(listener, Arc::new(admin), drain.signal()));
        Ok(())
    }
}

fn destination(row: &Row) -> DestinationRow {
    let served = row.served.as_ref();
    DestinationRow {
        name: row.name.clone(),
        virtual_ip: served.map(|served| served.virtual_ip.to_string()),
        port: served.map(|served| served.port),
        r#type: served.map(|served| served.kind.into()),
        target: served.map(|served| served.target.clone()),
        warnings: row.attention().map(str::to_owned).into_iter().collect(),
    }
}
