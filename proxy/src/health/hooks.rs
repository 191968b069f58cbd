//! What agents and fallbacks tell of themselves: each is asked. Whoever does not answer in time is
//! not known.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::Request;
use http::header::HOST;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use moka::future::Cache;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::pods::{Part, Pod};
use crate::admin::probes::{Hook, HookState, Report};

/// For one agent: it is in the same cluster and answers out of memory.
const ONE: Duration = Duration::from_secs(1);

/// For all of them.
const ALL: Duration = Duration::from_secs(2);

/// So many are asked at the same time.
const AT_ONCE: usize = 64;

/// An answer holds so long, however many ask.
const FRESH: Duration = Duration::from_secs(1);

const LONGEST_ANSWER: usize = 64 << 10;

/// What the agents said last.
#[derive(Debug)]
pub(super) struct Hooks {
    port: u16,
    cache: Cache<(), Arc<NodeHooks>>,
}

/// In the order of the pods.
pub(super) type NodeHooks = Vec<NodeHook>;

/// The hook on one node, and what else is told by the pod that looks after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeHook {
    pub(super) node: String,
    /// `<DaemonSet>/<node>`
    pub(super) place: String,
    /// None where the agent did not tell.
    pub(super) hook: Option<Hook>,
    /// What is not in order, though it serves.
    pub(super) problems: Vec<String>,
}

impl NodeHook {
    pub(super) fn state(&self) -> Option<HookState> {
        self.hook.as_ref().map(|hook| hook.state)
    }
}

impl Hooks {
    pub(super) fn new(port: u16) -> Self {
        Self {
            port,
            cache: Cache::builder().max_capacity(1).time_to_live(FRESH).build(),
        }
    }

    /// Of the agents among these pods.
    pub(super) async fn of(&self, pods: &[Arc<Pod>]) -> Arc<NodeHooks> {
        self.cache
            .get_with((), async { Arc::new(ask_all(pods, self.port).await) })
            .await
    }
}

async fn ask_all(pods: &[Arc<Pod>], port: u16) -> NodeHooks {
    let agents = pods
        .iter()
        .filter(|pod| matches!(pod.part, Part::Agent | Part::Fallback));
    let mut hooks: NodeHooks = agents
        .clone()
        .map(|pod| NodeHook {
            node: pod.node.clone().unwrap_or_default(),
            place: pod.place(),
            hook: None,
            problems: Vec::new(),
        })
        .collect();
    // One that is not ready may be without its hook, and is told anyway.
    let ready = agents.enumerate().filter(|(_, pod)| pod.ready);
    let addresses: Vec<(usize, SocketAddr)> = ready
        .filter_map(|(at, pod)| Some((at, SocketAddr::new(pod.address?, port))))
        .collect();
    let answers = stream::iter(addresses)
        .map(|(at, address)| async move { (at, ask(address).await) })
        .buffer_unordered(AT_ONCE);
    let mut answers = Box::pin(answers.take_until(sleep(ALL)));
    while let Some((at, answer)) = answers.next().await {
        if let Some(report) = answer {
            hooks[at].problems = problems(&report);
            hooks[at].hook = report.component.hook;
        }
    }
    hooks
}

/// Longer texts are cut: they are one of many in a message.
const LONGEST_PROBLEM: usize = 200;

fn problems(report: &Report) -> Vec<String> {
    let bad = report.component.facts.iter().filter(|fact| !fact.ok);
    let told = bad.map(|fact| format!("{}: {}", fact.name, fact.value));
    told.map(|mut text| {
        text.truncate(text.floor_char_boundary(LONGEST_PROBLEM));
        text
    })
    .collect()
}

async fn ask(address: SocketAddr) -> Option<Report> {
    match timeout(ONE, report(address)).await {
        Ok(Ok(report)) => Some(report),
        Ok(Err(error)) => {
            debug!(%address, error, "an agent does not say how it is");
            None
        }
        Err(_late) => {
            debug!(%address, "an agent does not answer in time");
            None
        }
    }
}

async fn report(address: SocketAddr) -> Result<Report, String> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| error.to_string())?;
    let connection = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = connection.map_err(|error| error.to_string())?;
    let request = Request::get("/status")
        .header(HOST, address.to_string())
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let exchange = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| error.to_string())?;
        let body = Limited::new(response.into_body(), LONGEST_ANSWER).collect().await;
        body.map(http_body_util::Collected::to_bytes)
            .map_err(|error| error.to_string())
    };
    tokio::pin!(exchange);
    let body = tokio::select! {
        body = &mut exchange => body,
        // It has ended in good order, perhaps with the answer.
        _ = connection => exchange.await,
    }?;
    serde_json::from_slice(&body).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;
    use crate::testing::still;

    fn agent(node: &str, address: IpAddr) -> Arc<Pod> {
        Arc::new(Pod {
            part: Part::Agent,
            owner: "sap-transp-proxy".into(),
            node: Some(node.into()),
            name: format!("agent-{node}"),
            ready: true,
            address: Some(address),
        })
    }

    /// Answers like an agent whose hook is like this; gives how often it was asked.
    fn answering(listener: TcpListener, state: &'static str) -> Arc<std::sync::atomic::AtomicUsize> {
        let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await.unwrap();
                let body = format!(
                    r#"{{"phase":"ready","pending":[],"component":"http-proxy","version":"1","node":"n","hook":{{"state":"{state}"}},"facts":[{{"name":"watch of Secrets","value":"forbidden","ok":false}},{{"name":"serves","value":"x","ok":true}}]}}"#
                );
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        asked
    }

    /// Addresses of this machine that share a free port.
    async fn listeners() -> (u16, [TcpListener; 3]) {
        loop {
            let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = first.local_addr().unwrap().port();
            let second = TcpListener::bind(("127.0.0.2", port)).await;
            let third = TcpListener::bind(("127.0.0.3", port)).await;
            if let (Ok(second), Ok(third)) = (second, third) {
                return (port, [first, second, third]);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_agent_is_asked_once_a_second_at_most() {
        let (port, [first, second, _]) = listeners().await;
        let asked = answering(first, "working");
        answering(second, "failed");
        let pods = [
            agent("a", [127, 0, 0, 1].into()),
            agent("b", [127, 0, 0, 2].into()),
            // Nobody is there.
            agent("d", [127, 0, 0, 4].into()),
        ];
        let hooks = Hooks::new(port);
        let both = async { tokio::join!(hooks.of(&pods), hooks.of(&pods)) };
        let (once, twice) = still(both).await;
        assert_eq!(once, twice);
        let states: Vec<_> = once.iter().map(NodeHook::state).collect();
        assert_eq!(states, [Some(HookState::Working), Some(HookState::Failed), None]);
        assert_eq!(once[0].problems, ["watch of Secrets: forbidden"]);
        assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_agent_is_waited_for_a_second_at_most() {
        let (port, _silent) = listeners().await;
        let pods = [
            agent("a", [127, 0, 0, 1].into()),
            agent("b", [127, 0, 0, 2].into()),
        ];
        let begin = Instant::now();
        let told = Hooks::new(port).of(&pods).await;
        assert_eq!(begin.elapsed().as_secs(), ONE.as_secs());
        assert!(
            told.iter()
                .all(|told| told.hook.is_none() && told.problems.is_empty())
        );
    }
}
