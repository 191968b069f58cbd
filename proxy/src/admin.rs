//! What operators look at: metrics, status, open connections.

mod log_level;
mod pages;
mod status;

pub use status::{DestinationRow, Fact, Phase, Status};

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tracing::debug;

use crate::accept::{self, Accepted, Limits, LimitsConfig};
use crate::lifecycle::drain::{Drain, DrainSignal};
use crate::lifecycle::readiness::Readiness;
use crate::telemetry::connections::Connections;
use crate::telemetry::logging::LogControl;
use crate::telemetry::registry::{self, Metrics};

/// Longest wait for the head of a request, also between two of them.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time from accept to the end of a connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_mins(10);

/// Few clients are expected here.
const LIMITS: LimitsConfig = LimitsConfig {
    per_source: 64,
    total: Some(256),
    pause_at: None,
};

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

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
    // The accept loop goes on while the process drains.
    let own = Drain::new();
    let on_loopback = listener
        .local_addr()
        .is_ok_and(|address| address.ip().is_loopback());
    let accepting = accept::serve(listener, Limits::new(LIMITS), own.watch(), {
        let drain = drain.clone();
        move |accepted| connection(accepted, Arc::clone(&admin), drain.clone(), on_loopback)
    });
    tokio::select! {
        () = accepting => {}
        () = drain.cut() => own.cut(),
    }
}

async fn connection(accepted: Accepted, admin: Arc<Admin>, drain: DrainSignal, on_loopback: bool) {
    let service = service_fn(async |request: Request<Incoming>| {
        let path = request.uri().path();
        let response = if path == log_level::PATH {
            log_level::answer(request, &admin.log, on_loopback).await
        } else {
            admin.answer(request.method(), path, wants_html(&request), drain.is_draining())
        };
        Ok::<_, Infallible>(response)
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(accepted.stream), service);
    tokio::select! {
        served = tokio::time::timeout(CONNECTION_TIMEOUT, serving) => {
            if let Ok(Err(error)) = served {
                debug!(%error, "connection to the admin server failed");
            }
        }
        () = accepted.drain.cut() => {}
    }
}

impl Admin {
    fn answer(&self, method: &Method, path: &str, html: bool, draining: bool) -> Response<Full<Bytes>> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut refused = page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n");
            refused
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        match path {
            "/" => page(StatusCode::OK, HTML, pages::INDEX),
            "/healthz" => page(StatusCode::OK, TEXT, "ok\n"),
            "/readyz" => self.readyz(draining),
            "/metrics" => match self.metrics.encode() {
                Ok(text) => page(StatusCode::OK, registry::CONTENT_TYPE, text),
                Err(_) => page(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    TEXT,
                    "the metrics cannot be written\n",
                ),
            },
            "/status" => self.status_page(html, draining),
            "/debug/connections" if html => page(
                StatusCode::OK,
                HTML,
                pages::connections(&self.connections.snapshot()),
            ),
            "/debug/connections" => json(&self.connections.snapshot()),
            _ => page(StatusCode::NOT_FOUND, TEXT, "not found; see /\n"),
        }
    }

    fn readyz(&self, draining: bool) -> Response<Full<Bytes>> {
        match (self.readiness.is_ready(), draining) {
            (true, false) => page(StatusCode::OK, TEXT, "ready\n"),
            (true, true) => page(StatusCode::OK, TEXT, "terminating but serving\n"),
            (false, _) => {
                let pending = self.readiness.pending().join(", ");
                page(
                    StatusCode::SERVICE_UNAVAILABLE,
                    TEXT,
                    format!("not ready: {pending}\n"),
                )
            }
        }
    }

    fn status_page(&self, html: bool, draining: bool) -> Response<Full<Bytes>> {
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

/// Browsers name `text/html` first; everything else gets JSON.
fn wants_html<B>(request: &Request<B>) -> bool {
    let accept = request
        .headers()
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .unwrap_or_default();
    match (accept.find("text/html"), accept.find(JSON)) {
        (Some(html), Some(json)) => html < json,
        (html, _) => html.is_some(),
    }
}

fn json(value: &impl serde::Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec_pretty(value) {
        Ok(text) => page(StatusCode::OK, JSON, text),
        Err(_) => page(
            StatusCode::INTERNAL_SERVER_ERROR,
            TEXT,
            "the page cannot be written\n",
        ),
    }
}

fn page(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        "content-security-policy",
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'"),
    );
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests;
