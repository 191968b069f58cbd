//! The data path on one screen.
//!
//! 1. *accept*: a connection comes in on the listener of one destination, within the limits.
//! 2. *original destination*: that listener is the answer; nothing the application sends is asked.
//! 3. *resolve*: the configuration of the destination as it is now, a [`Plane`].
//! 4. *credentials*, 5. *connect*, 6. *relay*: once per connection in [`stream`], and for every
//!    request in [`http`].

pub mod http;
pub mod stream;

use std::sync::Arc;

use arc_swap::ArcSwap;
use tracing::{Instrument as _, Span, warn};

use self::http::HttpService;
use self::stream::TcpService;
use crate::accept::Accepted;
use crate::lifecycle::workers::Workers;

/// How connections to a destination are served; swapped when its configuration changes.
pub enum Plane {
    Http(Arc<HttpService>),
    Tcp(Arc<TcpService>),
}

/// Lets a worker serve one connection to the destination whose listener accepted it.
#[expect(
    clippy::unused_async,
    reason = "polled inside the connection's span, which goes along"
)]
pub async fn hand_over(accepted: Accepted, workers: Workers, plane: Arc<ArcSwap<Plane>>) {
    let span = Span::current();
    let peer = accepted.peer;
    match accepted.detach() {
        Ok(accepted) => workers.spawn(move || {
            async move {
                match accepted.attach() {
                    Ok(accepted) => serve(accepted, plane).await,
                    Err(error) => warn!(%peer, %error, "connection is lost between two threads"),
                }
            }
            .instrument(span)
        }),
        Err(error) => warn!(%peer, %error, "connection is lost between two threads"),
    }
}

/// Serves one connection to its end.
async fn serve(accepted: Accepted, plane: Arc<ArcSwap<Plane>>) {
    match &*plane.load_full() {
        Plane::Tcp(service) => stream::serve_connection(accepted, Arc::clone(service)).await,
        Plane::Http(first) => {
            let first = Arc::clone(first);
            // A connection that began as HTTP stays that, also if the destination becomes another type.
            let current = move || match &**plane.load() {
                Plane::Http(service) => Arc::clone(service),
                Plane::Tcp(_) => Arc::clone(&first),
            };
            let Accepted {
                stream,
                peer,
                drain,
                permit,
                ..
            } = accepted;
            http::serve_connection(stream, peer, current, drain).await;
            drop(permit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::http::HttpMetrics;
    use super::stream::TcpMetrics;
    use crate::telemetry::registry::{Exposition, Metrics, scopes, strict};

    /// Dashboards exist that ask for exactly these.
    #[test]
    fn both_planes_are_scraped_from_the_start_under_the_names_that_users_know() {
        let mut metrics = Metrics::new();
        HttpMetrics::default().register(metrics.scope(scopes::HTTP));
        TcpMetrics::default().register(metrics.scope(scopes::TCP));
        metrics.register_process();
        for exposition in [Exposition::OpenMetrics, Exposition::Prometheus] {
            let text = metrics.encode(exposition).unwrap();
            let families = strict::parse(&text, exposition).unwrap();
            for (name, kind, help, suffix, scope) in [
                (
                    "tp_cpu_percent",
                    "gauge",
                    "Process CPU usage percentage",
                    "",
                    "system-metrics",
                ),
                (
                    "tp_memory_bytes",
                    "gauge",
                    "Process memory usage",
                    "",
                    "system-metrics",
                ),
                (
                    "tp_received_requests",
                    "counter",
                    "Total Received Requests",
                    "_total",
                    "sap-transp-proxy-conn-handler",
                ),
                (
                    "tp_target_system_requests",
                    "counter",
                    "Total Target Systems Requests",
                    "_total",
                    "sap-transp-proxy-conn-handler",
                ),
                (
                    "tp_open_tcp_connections",
                    "gauge",
                    "Opened tcp connections",
                    "",
                    "sap-transp-proxy-tcp",
                ),
                (
                    "tp_tcp_connections",
                    "counter",
                    "Total tcp connections",
                    "_total",
                    "sap-transp-proxy-tcp",
                ),
            ] {
                let family = &families[name];
                assert_eq!((family.kind.as_str(), family.help.as_str()), (kind, help));
                let series = format!("{name}{suffix}{{otel_scope_name=\"{scope}\",otel_scope_version=\"\"}}");
                assert!(family.samples.keys().eq([&series]), "{family:?}");
            }
        }
    }
}
