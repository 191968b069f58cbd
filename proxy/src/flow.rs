//! The data path on one screen.
//!
//! 1. *accept*: a connection comes in on the listener of one destination, within the limits.
//! 2. *original destination*: that listener is the answer; its [`Endpoint`] says what is served.
//! 3. *resolve*: the configuration as it is now. Where requests select their destination, it is
//!    asked for with every head, otherwise it is known before.
//! 4. *credentials*, 5. *connect*, 6. *relay*: once per connection in [`stream`], and for every
//!    request in [`http`].

mod behalf;
mod endpoint;
pub mod http;
mod steps;
pub mod stream;

pub use self::behalf::Behalf;
pub use self::endpoint::{Endpoint, Parts, Plane};
pub use self::steps::{Step, Steps, Took};

use std::sync::Arc;

use tracing::{Instrument as _, Span, warn};

use self::endpoint::Beginning;
use crate::accept::Accepted;
use crate::lifecycle::workers::Workers;
use crate::telemetry::connections::{self, About, Listed};

/// Lets a worker serve one connection to the endpoint whose listener accepted it.
#[expect(
    clippy::unused_async,
    reason = "polled inside the connection's span, which goes along"
)]
pub async fn hand_over(accepted: Accepted, workers: Workers, endpoint: Arc<Endpoint>) {
    let span = Span::current();
    let peer = accepted.peer;
    match accepted.detach() {
        Ok(accepted) => workers.spawn(move || {
            async move {
                match accepted.attach() {
                    Ok(accepted) => serve(accepted, endpoint).await,
                    Err(error) => warn!(%peer, %error, "connection is lost between two threads"),
                }
            }
            .instrument(span)
        }),
        Err(error) => warn!(%peer, %error, "connection is lost between two threads"),
    }
}

/// Serves one connection to its end.
async fn serve(accepted: Accepted, endpoint: Arc<Endpoint>) {
    match endpoint.begin() {
        Beginning::Tcp(service) => stream::serve_connection(accepted, service).await,
        Beginning::NoTcp(service) => stream::refuse_connection(accepted, &service),
        Beginning::Http => {
            let listed = list(&accepted, &endpoint);
            let entry = Arc::clone(listed.entry());
            // A connection that began as HTTP stays that, also if the destination becomes another type.
            let resolve = move |head: &::http::HeaderMap| {
                entry.touch();
                let resolved = endpoint.resolve(head);
                if let Ok(service) = &resolved {
                    entry.lead_to(service.destination());
                }
                resolved
            };
            http::serve_connection(accepted, listed, resolve).await;
        }
    }
}

/// Among the open connections. Each request may lead to another target.
fn list(accepted: &Accepted, endpoint: &Endpoint) -> Listed {
    let parts = endpoint.parts();
    let listed = parts.tcp.connections.open(About {
        id: accepted.id,
        protocol: connections::HTTP,
        cr: parts.tcp.behalf.as_deref().map(Behalf::to_string),
        destination: endpoint.label().to_string(),
        source: accepted.peer,
        target: "-".to_owned(),
    });
    listed.entry().set_state(connections::State::Open);
    listed
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
