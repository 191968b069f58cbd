//! The role `agent`: one per node, with the hook; and the fallback, which serves all nodes
//! without it.
//!
//! 1. *Feeds* write what the API server tells into the directory, the store of destinations
//!    and the tables of pods.
//! 2. *Control* alone acts upon that: listeners, virtual IPs, planes.
//! 3. *Gate* asks about every connection who it is; the *door* of its destination lets it in.
//! 4. The *keeper* of the hook attaches it when all that is in place, and first takes it off.

mod additional_cas;
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
mod limits;
mod numbers;
mod plane;
mod pod_table;
mod refusals;
mod remember;
mod running;
mod settings;
mod snapshot;
mod status;
mod tasks;

use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use arc_swap::ArcSwapOption;
use tokio::sync::mpsc;
use tracing::{info, warn};

use self::additional_cas::AdditionalCas;
use self::all_pods::AllPods;
use self::answers::Everything;
use self::board::Board;
use self::callers::Callers;
use self::control::{Control, Hooked};
use self::entries::{Common, Entries};
use self::feeds::{Feeds, Known, OwnPod};
use self::gate::Gate;
use self::hook::{HookState, Keeper, Loaded};
use self::limits::PlaneLimits;
use self::numbers::Numbers;
use self::plane::Planes;
use self::pod_table::PodTable;
use self::refusals::RefusalLog;
use self::remember::{Missing, Remember};
use self::running::{HookTask, Running};
use self::settings::{decided, secret_namespaces, wants_hook};
use self::status::Status;
use self::tasks::Tasks;
use super::{in_cluster, parts};
use crate::accept;
use crate::admin::probes::Probes;
use crate::admin::socket;
use crate::cli;
use crate::cluster::client;
use crate::cluster::watch::Watches;
use crate::config::kubernetes::File;
use crate::connect::direct::OwnAddresses;
use crate::connect::tls::Authorities;
use crate::datapath;
use crate::lifecycle::drain::Drain;
use crate::lifecycle::readiness::Readiness;
use crate::resolve::directory::Directory;
use crate::resolve::source::secrets;
use crate::telemetry::registry::{Metrics, scopes};

/// As in the label of its pod, also that of the fallback.
const COMPONENT: &str = "http-proxy";

pub fn run(arguments: &cli::Agent) -> anyhow::Result<ExitCode> {
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
    let (mut agent, mut tasks) = agent.start();
    let serving = async {
        agent.begin().await;
        drop(starting);
        info!("ready");
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = serving => {}
        asked = in_cluster::asked_to_stop() => asked?,
        broken = tasks.broken() => return Err(broken),
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
    additional_cas: Option<AdditionalCas>,
    writer: Arc<Mutex<secrets::Writer>>,
    destinations: secrets::Reader,
    node: PodTable,
    callers: Arc<Callers>,
    exempt: Arc<ArcSwapOption<datapath::Exempt>>,
    numbers: Numbers,
    refusals: RefusalLog,
    board: Board,
    limits: Arc<PlaneLimits>,
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
        let authorities = Authorities::default();
        let place = settings.additional_cas.clone();
        Ok(Self {
            additional_cas: place.map(|place| AdditionalCas::new(place, authorities.clone())),
            hook: if wants_hook(arguments, &settings) {
                HookState::wanted()
            } else {
                HookState::off()
            },
            shared: parts::start(decided(&settings, &own, &exempt, &authorities)?)?,
            limits: Arc::new(PlaneLimits::new(&settings, descriptors)),
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
            destinations: self.destinations.clone(),
            additional_cas: self.additional_cas.clone(),
            limits: Arc::clone(&self.limits),
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
            installation: self.arguments.cluster.namespace.clone(),
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
        self.limits.http.register(root);
        self.refusals.register(root);
        if wants_hook(self.arguments, &self.settings) {
            self.hook.register(root);
        }
        self.feeds.watches.register(root);
        metrics.register_process();
        metrics
    }

    fn tcp_metrics(&self) -> Metrics {
        let mut metrics = Metrics::new();
        self.shared.flow.tcp.metrics.register(metrics.scope(scopes::TCP));
        self.limits.tcp.register(metrics.root());
        metrics
    }

    /// Starts all that runs from now on.
    fn start(self) -> (Running<'a>, Tasks) {
        let tasks = Tasks::default();
        let (order, orders) = mpsc::channel(1);
        let (hand_over, loaded) = mpsc::channel(1);
        let keeper = wants_hook(self.arguments, &self.settings).then(|| self.keeper(hand_over).prepared());
        let control = Control {
            known: self.feeds.known.clone(),
            entries: self.entries(&tasks),
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
            supervisor: tasks.supervisor(),
        };
        tasks.spawn(control.run());
        self.start_feeds(&tasks);
        tasks.spawn(self.remember().run());
        let hook = keeper.map(|keeper| HookTask::start(keeper, &tasks));
        let running = Running {
            agent: self,
            order,
            hook,
        };
        (running, tasks)
    }

    fn start_feeds(&self, tasks: &Tasks) {
        let feeds = &self.feeds;
        tasks.spawn_endless(feeds.services());
        tasks.spawn_endless(feeds.crs());
        for namespace in secret_namespaces(self.arguments, &self.settings) {
            tasks.spawn_endless(feeds.secrets(&namespace, &self.writer));
        }
        if let Some(cas) = &self.additional_cas {
            tasks.spawn_endless(cas.watch(&feeds.client, &feeds.watches));
        }
        let of_all = {
            let feeds = feeds.clone();
            move |table| feeds.pods_of_all(table)
        };
        tasks.spawn(feeds.all.clone().run(of_all));
        if wants_hook(self.arguments, &self.settings) {
            tasks.spawn_endless(feeds.pods_of_node(&self.arguments.node, self.node.clone()));
        } else {
            feeds.all.keep_for_ever();
        }
    }

    fn entries(&self, tasks: &Tasks) -> Entries {
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
            supervisor: tasks.supervisor(),
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
            kernel_log: true,
            ..datapath::Options::default()
        };
        let root = self.settings.ebpf.cgroup_root.clone();
        Keeper::new(
            root,
            options,
            loaded,
            self.hook.clone(),
            self.readiness.clone(),
            Arc::clone(&self.feeds.own),
        )
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
            node: wants_hook(self.arguments, &self.settings).then(|| self.node.clone()),
            all: self.feeds.all.clone(),
            own: Arc::clone(&self.feeds.own),
            watches: self.feeds.watches.clone(),
        }
    }
}
