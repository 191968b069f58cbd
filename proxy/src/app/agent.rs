//! The role `agent`: one per node, with the hook; and the fallback, which serves all nodes
//! without it.
//!
//! 1. *Feeds* write what the API server tells into the directory, the store of destinations
//!    and the tables of pods.
//! 2. *Control* alone acts upon that: listeners, virtual IPs, planes.
//! 3. *Gate* asks about every connection who it is; the *door* of its destination lets it in.
//! 4. The *keeper* of the hook attaches it when all that is in place, and first takes it off.

mod all_pods;
mod answers;
mod begin;
mod board;
mod callers;
mod control;
mod door;
mod entries;
mod feeds;
mod gate;
mod hook;
mod identities;
mod numbers;
mod plane;
mod pod_table;
mod refusals;
mod remember;
mod snapshot;
mod status;

use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwapOption;
use http::StatusCode;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::all_pods::AllPods;
use self::answers::Everything;
use self::begin::Begin;
use self::board::Board;
use self::callers::Callers;
use self::control::{Control, Hooked, Order};
use self::entries::{Common, Entries};
use self::feeds::{Feeds, Known, OwnPod};
use self::gate::Gate;
use self::hook::{HookState, Keeper, Loaded};
use self::numbers::Numbers;
use self::plane::Planes;
use self::pod_table::PodTable;
use self::refusals::RefusalLog;
use self::remember::{Missing, Remember};
use self::status::Status;
use super::{in_cluster, memory, parts};
use crate::accept::{self, Limits, LimitsConfig};
use crate::admin::probes::Probes;
use crate::admin::socket;
use crate::cli;
use crate::cluster::client;
use crate::cluster::watch::Watches;
use crate::config::kubernetes::File;
use crate::connect::direct::{self, OwnAddresses};
use crate::datapath;
use crate::flow::http::Retry;
use crate::lifecycle::drain::{Drain, Drained};
use crate::lifecycle::readiness::Readiness;
use crate::resolve::directory::Directory;
use crate::resolve::keystore::CertificateStore;
use crate::resolve::source::secrets;
use crate::telemetry::connections::Connections;
use crate::telemetry::logging::Level;
use crate::telemetry::registry::{Metrics, scopes};

/// As in the label of its pod, also that of the fallback.
const COMPONENT: &str = "http-proxy";

/// So long after the signal connections are still accepted: it takes a moment until no node
/// sends any more, and the hooks of this one are gone for no longer than that.
const LINGER: Duration = Duration::from_secs(5);

pub fn run(arguments: &cli::Agent) -> anyhow::Result<ExitCode> {
    memory::keep_to_this_process().context("memory cannot be kept out of core files")?;
    let descriptors = accept::raise_descriptor_limit().context("the limit of open files cannot be raised")?;
    in_cluster::run(COMPONENT, &arguments.cluster, |settings| {
        serve(arguments, Arc::new(settings), descriptors.now)
    })
}

/// Puts everything together, serves until it is asked to stop, takes everything apart.
async fn serve(arguments: &cli::Agent, settings: Arc<File>, descriptors: u64) -> anyhow::Result<ExitCode> {
    let agent = Agent::assemble(arguments, settings, descriptors).await?;
    let stopping = Drain::new();
    let starting = agent.readiness.latch("what the API server knows");
    agent.serve_pages(&stopping)?;
    let mut agent = agent.start();
    tokio::select! {
        () = agent.begin() => {
            drop(starting);
            info!("ready");
            in_cluster::asked_to_stop().await?;
        }
        asked = in_cluster::asked_to_stop() => asked?,
    }
    stopping.start();
    agent.stop().await;
    stopping.cut();
    Ok(ExitCode::SUCCESS)
}

/// All parts, before anything happens.
struct Agent<'a> {
    arguments: &'a cli::Agent,
    settings: Arc<File>,
    readiness: Readiness,
    drain: Drain,
    hook: HookState,
    feeds: Feeds,
    writer: Arc<Mutex<secrets::Writer>>,
    destinations: secrets::Reader,
    node: PodTable,
    callers: Arc<Callers>,
    exempt: Arc<ArcSwapOption<datapath::Exempt>>,
    numbers: Numbers,
    refusals: RefusalLog,
    board: Board,
    limits: Arc<Limits>,
    own: Arc<OwnAddresses>,
    shared: parts::Shared,
}

impl<'a> Agent<'a> {
    async fn assemble(
        arguments: &'a cli::Agent,
        settings: Arc<File>,
        descriptors: u64,
    ) -> anyhow::Result<Self> {
        let namespaces = secret_namespaces(arguments, &settings);
        let (writer, destinations) = secrets::store(namespaces);
        let (own, exempt) = (Arc::<OwnAddresses>::default(), Arc::default());
        let (node, all, own_pod) = (
            PodTable::default(),
            AllPods::default(),
            Arc::new(OwnPod::default()),
        );
        let feeds = Feeds {
            client: client::connect("agent").await?,
            watches: Watches::default(),
            namespace: arguments.cluster.namespace.clone(),
            pod: arguments.cluster.pod.clone(),
            known: Known::new(Directory::new(settings.default_scope)),
            own: Arc::clone(&own_pod),
            all: all.clone(),
        };
        Ok(Self {
            hook: if wants_hook(arguments, &settings) {
                HookState::wanted()
            } else {
                HookState::off()
            },
            shared: parts::start(decided(&settings, &own, &exempt)?)?,
            limits: Limits::new(connection_limits(&settings, descriptors)),
            callers: Arc::new(Callers::new(node.clone(), all, own_pod)),
            writer: Arc::new(Mutex::new(writer)),
            readiness: Readiness::default(),
            drain: Drain::new(),
            numbers: Numbers::default(),
            refusals: RefusalLog::default(),
            board: Board::default(),
            arguments,
            settings,
            feeds,
            destinations,
            node,
            exempt,
            own,
        })
    }

    /// Probes and metrics, to the very end.
    fn serve_pages(&self, stopping: &Drain) -> anyhow::Result<()> {
        let status = Status {
            node: self.arguments.node.clone(),
            fallback: self.arguments.fallback,
            hook: self.hook.clone(),
            watches: self.feeds.watches.clone(),
            all: self.feeds.all.clone(),
        };
        self.answer_questions(stopping);
        let probes = Probes {
            readiness: self.readiness.clone(),
            component: Box::new(move || status.component()),
        };
        let cluster = &self.arguments.cluster;
        in_cluster::serve_probes(cluster.probes, probes, stopping)?;
        if self.settings.metrics.enabled {
            in_cluster::serve_metrics(cluster.metrics, self.http_metrics(), stopping)?;
            in_cluster::serve_metrics(self.arguments.tcp_metrics, self.tcp_metrics(), stopping)?;
        }
        Ok(())
    }

    /// Nobody needs `explain` to be served, so nothing ends because it cannot be.
    fn answer_questions(&self, stopping: &Drain) {
        match socket::bind(&self.arguments.run) {
            Ok(listener) => {
                let answers = Arc::new(self.everything());
                tokio::spawn(socket::serve(listener, answers, stopping.signal()));
            }
            Err(error) => {
                let folder = self.arguments.run.display();
                warn!(%folder, %error, "explain and connections cannot be used here");
            }
        }
    }

    fn everything(&self) -> Everything {
        let namespaces = secret_namespaces(self.arguments, &self.settings);
        Everything {
            node: self.arguments.node.clone(),
            pod: self.arguments.cluster.pod.clone(),
            fallback: self.arguments.fallback,
            secret_namespaces: namespaces.into_iter().collect(),
            settings: Arc::clone(&self.settings),
            hook: self.hook.clone(),
            watches: self.feeds.watches.clone(),
            missing: self.missing(),
            known: self.feeds.known.clone(),
            board: self.board.clone(),
            destinations: self.destinations.clone(),
            pods: self.node.clone(),
            callers: Arc::clone(&self.callers),
            refusals: self.refusals.clone(),
            connections: self.shared.flow.tcp.connections.clone(),
        }
    }

    /// Of the HTTP plane, and of the process.
    fn http_metrics(&self) -> Metrics {
        let mut metrics = Metrics::new();
        let http = &self.shared.flow.http;
        http.metrics.register(metrics.scope(scopes::HTTP));
        let root = metrics.root();
        http.tokens.register(root);
        self.limits.register(root);
        self.refusals.register(root);
        self.hook.register(root);
        self.feeds.watches.register(root);
        metrics.register_process();
        metrics
    }

    fn tcp_metrics(&self) -> Metrics {
        let mut metrics = Metrics::new();
        self.shared.flow.tcp.metrics.register(metrics.scope(scopes::TCP));
        metrics
    }

    /// Starts all that runs from now on.
    fn start(self) -> Running<'a> {
        let (order, orders) = mpsc::channel(1);
        let (hand_over, loaded) = mpsc::channel(1);
        let keeper = wants_hook(self.arguments, &self.settings).then(|| self.keeper(hand_over).prepared());
        let control = Control {
            known: self.feeds.known.clone(),
            entries: self.entries(),
            destinations: self.destinations.subscribe(),
            orders,
            loaded,
            hooked: Hooked {
                callers: Arc::clone(&self.callers),
                node: self.node.clone(),
                numbers: self.numbers.clone(),
                refusals: self.refusals.clone(),
                exempt: Arc::clone(&self.exempt),
            },
        };
        tokio::spawn(control.run());
        self.start_feeds();
        tokio::spawn(self.remember().run());
        Running {
            agent: self,
            order,
            keeper,
            kept: None,
            stop: CancellationToken::new(),
        }
    }

    fn start_feeds(&self) {
        let feeds = &self.feeds;
        tokio::spawn(feeds.services());
        tokio::spawn(feeds.crs());
        for namespace in secret_namespaces(self.arguments, &self.settings) {
            tokio::spawn(feeds.secrets(&namespace, &self.writer));
        }
        let of_all = {
            let (feeds, watches) = (feeds.clone(), Watches::default());
            move |table| feeds.pods_of_all(&watches, table)
        };
        tokio::spawn(feeds.all.clone().run(of_all));
        if wants_hook(self.arguments, &self.settings) {
            tokio::spawn(feeds.pods_of_node(&self.arguments.node, self.node.clone()));
        } else {
            feeds.all.keep_for_ever();
        }
    }

    fn entries(&self) -> Entries {
        let common = Common {
            gate: Arc::new(Gate {
                callers: Arc::clone(&self.callers),
                refusals: self.refusals.clone(),
                workers: self.shared.workers.clone(),
            }),
            planes: Planes {
                parts: self.shared.flow.clone(),
                destinations: self.destinations.clone(),
                settings: Arc::clone(&self.settings),
            },
            limits: Arc::clone(&self.limits),
            drain: self.drain.child(),
            own: Arc::clone(&self.own),
            numbers: self.numbers.clone(),
            ips: self.arguments.ips.clone(),
        };
        Entries::new(common, self.board.clone())
    }

    fn keeper(&self, loaded: mpsc::Sender<Loaded>) -> Keeper {
        let options = datapath::Options {
            origin_record: true,
            refusal_record: true,
            kernel_log: self.settings.logging.level == Level::Trace,
            ..datapath::Options::default()
        };
        let root = self.settings.ebpf.cgroup_root.clone();
        Keeper::new(root, options, loaded, self.hook.clone())
    }

    /// The pods that callers are looked for among.
    fn pods(&self) -> &PodTable {
        if wants_hook(self.arguments, &self.settings) {
            &self.node
        } else {
            self.feeds.all.table()
        }
    }

    fn remember(&self) -> Remember {
        Remember {
            folder: self.arguments.state.clone(),
            pod: self.arguments.cluster.pod.clone(),
            missing: self.missing(),
        }
    }

    fn missing(&self) -> Missing {
        Missing {
            known: self.feeds.known.clone(),
            destinations: self.destinations.clone(),
            pods: self.pods().clone(),
        }
    }
}

/// An agent that serves, or is about to.
struct Running<'a> {
    agent: Agent<'a>,
    order: mpsc::Sender<Order>,
    keeper: Option<Keeper>,
    kept: Option<JoinHandle<()>>,
    stop: CancellationToken,
}

impl Running<'_> {
    /// Resolves when connections may come: all that is known is served, and the hook is in place
    /// or was tried.
    async fn begin(&mut self) {
        let agent = &self.agent;
        let begin = Begin {
            folder: agent.arguments.state.clone(),
            missing: agent.missing(),
            writer: Arc::clone(&agent.writer),
        };
        begin.know().await;
        let (settle, settled) = oneshot::channel();
        if self.order.send(Order::Settle(settle)).await.is_ok() {
            // Only the end of the control could break this off.
            let _ = settled.await;
        }
        self.hook().await;
    }

    async fn hook(&mut self) {
        let Some(keeper) = self.keeper.take() else { return };
        let (tried, first) = oneshot::channel();
        let kept = tokio::spawn(keeper.run(tried, self.stop.clone()));
        self.kept = Some(kept);
        // Either it was tried, or somebody has asked to stop.
        let _ = first.await;
    }

    /// The hook first, so that others get what is new; then what is open may finish.
    async fn stop(self) {
        self.stop.cancel();
        if let Some(kept) = self.kept
            && let Err(error) = kept.await
        {
            warn!(%error, "the hook is taken off with the process");
        }
        let drain = self.agent.drain;
        let deadline = self.agent.settings.drain_seconds.duration();
        let finishing = async {
            tokio::time::sleep(LINGER).await;
            drain.finish(deadline).await
        };
        let drained = tokio::select! {
            drained = finishing => drained,
            () = in_cluster::asked_again() => {
                drain.cut();
                drain.finish(Duration::ZERO).await
            }
        };
        if let Drained::Cut(held) = drained {
            warn!(connections = held, "connections were cut");
        }
    }
}

fn wants_hook(arguments: &cli::Agent, settings: &File) -> bool {
    settings.ebpf.enabled && !arguments.fallback
}

/// Where Secrets may be destinations.
fn secret_namespaces(arguments: &cli::Agent, settings: &File) -> std::collections::BTreeSet<String> {
    let more = settings.secrets.namespaces.iter().cloned();
    more.chain([arguments.cluster.namespace.clone()]).collect()
}

fn decided(
    settings: &File,
    own: &Arc<OwnAddresses>,
    exempt: &Arc<ArcSwapOption<datapath::Exempt>>,
) -> anyhow::Result<parts::Decided> {
    let exempt = Arc::clone(exempt);
    let exempt_socket = move |socket: std::os::fd::BorrowedFd<'_>| match &*exempt.load() {
        Some(exempt) => exempt.socket(socket),
        None => Ok(()),
    };
    Ok(parts::Decided {
        dialer: direct::Config {
            socket_hook: Some(Arc::new(exempt_socket)),
            own: Arc::clone(own),
            // Nothing that listens in this pod is for applications.
            forbid_loopback: true,
        },
        retry: retry(settings)?,
        access_log: settings.logging.access,
        technical_cas: parts::authorities(&settings.additional_cas)?,
        target_cas: CertificateStore::default(),
        connections: Connections::default(),
    })
}

fn retry(settings: &File) -> anyhow::Result<Option<Retry>> {
    let retry = &settings.http.retry;
    let status_codes: Result<_, _> = retry
        .status_codes
        .iter()
        .map(|code| StatusCode::from_u16(*code))
        .collect();
    Ok((retry.max_retries > 0).then_some(Retry {
        max_retries: retry.max_retries.into(),
        status_codes: status_codes.context("http.retry.statusCodes")?,
    }))
}

fn connection_limits(settings: &File, descriptors: u64) -> LimitsConfig {
    // Destinations may need that many listeners, if there is room for them at all.
    let ports = settings.target_ports.range();
    let listeners = u64::from(ports.end() - ports.start()) + 1;
    LimitsConfig {
        per_source: settings.limits.connections_per_pod,
        ..LimitsConfig::default()
    }
    .within_descriptors(descriptors - listeners.min(descriptors / 2))
}
