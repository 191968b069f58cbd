//! What operators look at: metrics, status, open connections.
//!
//! `run` has one server for all of it. A role on Kubernetes has two, [`probes`] and
//! [`metrics`], because the network reaches them.

pub mod explain;
pub(crate) mod html;
pub mod metrics;
pub mod probes;
pub(crate) mod server;
pub mod socket;

mod log_level;
mod pages;
mod status;

pub use status::{DestinationRow, Fact, Phase, Status};

use std::fmt;
use std::sync::Arc;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use tokio::net::TcpListener;

use self::server::{HTML, Page, json, not_found, page};
use crate::lifecycle::drain::DrainSignal;
use crate::lifecycle::readiness::Readiness;
use crate::telemetry::connections::Connections;
use crate::telemetry::logging::LogControl;
use crate::telemetry::registry::Metrics;

/// What the admin server shows.
pub struct Admin {
    pub metrics: Arc<Metrics>,
    pub connections: Connections,
    pub readiness: Readiness,
    /// What `/log-level` changes.
    pub log: LogControl,
    /// Asked at every request for the status page.
    pub status: Box<dyn Fn() -> Status + Send + Sync>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

/// Serves until `drain` is cut or the process ends; while it drains, the pages say so.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>, drain: DrainSignal) {
    let on_loopback = listener
        .local_addr()
        .is_ok_and(|address| address.ip().is_loopback());
    let signal = drain.clone();
    server::serve(listener, drain, move |request| {
        let (admin, draining) = (Arc::clone(&admin), signal.is_draining());
        async move { admin.answer(request, on_loopback, draining).await }
    })
    .await;
}

impl Admin {
    async fn answer(&self, request: Request<Incoming>, on_loopback: bool, draining: bool) -> Page {
        if request.uri().path() == log_level::PATH {
            return log_level::answer(request, &self.log, on_loopback).await;
        }
        if let Some(refused) = server::refuse_writing(request.method()) {
            return refused;
        }
        let html = server::wants_html(&request);
        match request.uri().path() {
            "/" => page(StatusCode::OK, HTML, pages::INDEX),
            "/healthz" => probes::healthz(),
            "/readyz" => probes::readyz(&self.readiness, draining),
            metrics::PATH => metrics::answer(&self.metrics, &request),
            "/status" => self.status_page(html, draining),
            "/debug/connections" if html => page(
                StatusCode::OK,
                HTML,
                pages::connections(&self.connections.snapshot()),
            ),
            "/debug/connections" => json(&self.connections.snapshot()),
            _ => not_found("/"),
        }
    }

    fn status_page(&self, html: bool, draining: bool) -> Page {
        let status = (self.status)();
        let phase = Phase::of(self.readiness.is_ready(), draining);
        let pending = self.readiness.pending();
        let open = self.connections.len();
        if html {
            page(
                StatusCode::OK,
                HTML,
                pages::status(&status, phase, &pending, open),
            )
        } else {
            json(&status::Report {
                phase,
                pending,
                open_connections: open,
                status: &status,
            })
        }
    }
}

#[cfg(test)]
mod tests;
