//! The pages of a role on Kubernetes for the kubelet and for `healthcheck`: `/healthz`,
//! `/readyz`, `/status`. Whoever reaches the pod may read them, so they tell nothing of
//! destinations, and nothing can be changed here.

use std::fmt;
use std::sync::Arc;

use http::{Request, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use super::server::{self, Page, TEXT, json, not_found, page};
use super::status::{Fact, Phase};
use crate::lifecycle::drain::DrainSignal;
use crate::lifecycle::readiness::Readiness;

/// What a role answers with.
pub struct Probes {
    pub readiness: Readiness,
    /// Asked at every request for `/status`.
    pub component: Box<dyn Fn() -> Component + Send + Sync>,
}

impl fmt::Debug for Probes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probes").finish_non_exhaustive()
    }
}

/// What a role tells of itself at `/status`, beside its phase.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Component {
    /// As in the label of its pod, such as `http-proxy`.
    pub component: String,
    pub version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Of agents only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<Hook>,
    #[serde(default)]
    pub facts: Vec<Fact>,
}

/// How the eBPF programs of an agent are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    pub state: HookState,
    /// Where it is or should be attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// Why it does not work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookState {
    /// Not wanted: the settings say so, or this is a fallback.
    Off,
    /// The last self test saw its connection redirected.
    Working,
    /// Wanted, but connections come by the Services alone.
    Failed,
}

/// The JSON of `/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub phase: Phase,
    pub pending: Vec<String>,
    #[serde(flatten)]
    pub component: Component,
}

/// Serves until `drain` is cut or the process ends; while it drains, the pages say so.
pub async fn serve(listener: TcpListener, probes: Arc<Probes>, drain: DrainSignal) {
    let signal = drain.clone();
    server::serve(listener, drain, move |request| {
        let answer = probes.answer(&request, signal.is_draining());
        async { answer }
    })
    .await;
}

impl Probes {
    fn answer<B>(&self, request: &Request<B>, draining: bool) -> Page {
        if let Some(refused) = server::refuse_writing(request.method()) {
            return refused;
        }
        match request.uri().path() {
            "/healthz" => healthz(),
            "/readyz" => readyz(&self.readiness, draining),
            "/status" => json(&Report {
                phase: Phase::of(self.readiness.is_ready(), draining),
                pending: self.readiness.pending().into_iter().map(Into::into).collect(),
                component: (self.component)(),
            }),
            _ => not_found("/healthz, /readyz, /status"),
        }
    }
}

pub(super) fn healthz() -> Page {
    page(StatusCode::OK, TEXT, "ok\n")
}

pub(super) fn readyz(readiness: &Readiness, draining: bool) -> Page {
    match (readiness.is_ready(), draining) {
        (true, false) => page(StatusCode::OK, TEXT, "ready\n"),
        (true, true) => page(StatusCode::OK, TEXT, "terminating but serving\n"),
        (false, _) => {
            let pending = readiness.pending().join(", ");
            page(
                StatusCode::SERVICE_UNAVAILABLE,
                TEXT,
                format!("not ready: {pending}\n"),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use http_body_util::BodyExt as _;

    use super::*;

    fn probes(readiness: &Readiness) -> Probes {
        Probes {
            readiness: readiness.clone(),
            component: Box::new(|| Component {
                component: "http-proxy".into(),
                version: "1.2.3".into(),
                node: Some("node-1".into()),
                hook: Some(Hook {
                    state: HookState::Failed,
                    cgroup: Some("/host/cgroup/kubepods".into()),
                    reason: Some("another program is attached exclusively".into()),
                }),
                facts: vec![],
            }),
        }
    }

    fn get(probes: &Probes, path: &str, draining: bool) -> (StatusCode, String) {
        let request = Request::get(path).body(()).unwrap();
        let response = probes.answer(&request, draining);
        let status = response.status();
        let body = now(response.into_body().collect()).unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// Nothing here has to be waited for.
    fn now<F: Future>(future: F) -> F::Output {
        use std::task::{Context, Poll, Waker};
        match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("the page is not there"),
        }
    }

    #[test]
    fn the_status_is_read_back_as_it_was_told() {
        let readiness = Readiness::default();
        let _latch = readiness.latch("Destination resources");
        let (status, text) = get(&probes(&readiness), "/status", false);
        let report: Report = serde_json::from_str(&text).unwrap();
        assert_eq!((status, report.phase), (StatusCode::OK, Phase::Starting));
        assert_eq!(report.pending, ["Destination resources"]);
        assert_eq!(report.component, (probes(&readiness).component)());
        assert!(text.contains(r#""state": "failed""#), "{text}");
    }

    #[test]
    fn probes_are_answered_to_the_end() {
        let readiness = Readiness::default();
        let probes = probes(&readiness);
        assert_eq!(get(&probes, "/healthz", true), (StatusCode::OK, "ok\n".into()));
        assert_eq!(
            get(&probes, "/readyz", true),
            (StatusCode::OK, "terminating but serving\n".into())
        );
        let _latch = readiness.latch("API server");
        assert_eq!(
            get(&probes, "/readyz", false),
            (StatusCode::SERVICE_UNAVAILABLE, "not ready: API server\n".into())
        );
        assert!(get(&probes, "/status", true).1.contains(r#""phase": "draining""#));
    }

    #[test]
    fn nothing_else_is_here() {
        let probes = probes(&Readiness::default());
        for path in ["/", "/log-level", "/metrics", "/debug/connections"] {
            assert_eq!(get(&probes, path, false).0, StatusCode::NOT_FOUND, "{path}");
        }
        for method in ["PUT", "POST", "DELETE"] {
            let request = Request::builder().method(method).uri("/status").body(()).unwrap();
            assert_eq!(
                probes.answer(&request, false).status(),
                StatusCode::METHOD_NOT_ALLOWED
            );
        }
    }
}
