//! The hook of an agent: wanted, but never needed. Without it connections come by the Services.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use super::feeds::OwnPod;
use crate::admin::probes;
use crate::app::hook::Hook;
use crate::datapath::pods::{AttachPoint, PodCgroups, attach_point};
use crate::datapath::{self, Counters, Datapath};
use crate::lifecycle::readiness::{Latch, Readiness};

/// Between two proofs, and two attempts.
const INTERVAL: Duration = Duration::from_mins(1);
/// The same while the hook is attached and does not work: somebody may wait for it.
const AGAIN: Duration = Duration::from_secs(5);
/// So long after the connect hooks, connections that they have redirected may need the others.
const HANDSHAKES: Duration = Duration::from_millis(300);
/// A handshake cannot take that long.
const STALE: Duration = Duration::from_mins(5);

/// How the hook is; clones share it.
#[derive(Debug, Clone)]
pub(super) struct HookState {
    told: Arc<Mutex<Told>>,
    attached: Gauge,
    effective: Gauge,
    counters: Arc<ArcSwapOption<Counters>>,
}

#[derive(Debug)]
struct Told {
    hook: probes::Hook,
    /// When the last self test ended, and why it failed.
    tested: Option<(Instant, Option<String>)>,
}

/// The programs are in the kernel. They are attached when `ready` says that the virtual
/// IPs are in their tables.
pub(super) struct Loaded {
    pub(super) virtual_ips: datapath::VirtualIps,
    pub(super) callers: datapath::Callers,
    pub(super) exempt: datapath::Exempt,
    pub(super) origins: datapath::Origins,
    pub(super) refusals: Option<datapath::Refusals>,
    pub(super) cgroups: PodCgroups,
    pub(super) ready: oneshot::Sender<()>,
}

/// Keeps the hook, or tries to get one.
pub(super) struct Keeper {
    /// Where the node's cgroup tree is mounted.
    root: PathBuf,
    options: datapath::Options,
    loaded: mpsc::Sender<Loaded>,
    state: HookState,
    /// In the kernel, and not announced yet.
    prepared: Option<Datapath>,
    hook: Option<Hook>,
    attached: bool,
    readiness: Readiness,
    own: Arc<OwnPod>,
    /// While the hook is attached and does not work.
    unready: Option<Latch>,
}

impl HookState {
    pub(super) fn off() -> Self {
        Self::new(probes::HookState::Off, None)
    }

    pub(super) fn wanted() -> Self {
        Self::new(
            probes::HookState::Failed,
            Some("it is about to be attached".into()),
        )
    }

    fn new(state: probes::HookState, reason: Option<String>) -> Self {
        let hook = probes::Hook {
            state,
            cgroup: None,
            reason,
        };
        Self {
            told: Arc::new(Mutex::new(Told { hook, tested: None })),
            attached: Gauge::default(),
            effective: Gauge::default(),
            counters: Arc::default(),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "ebpf_attached",
            "1 if the eBPF programs are attached, else 0",
            self.attached.clone(),
        );
        registry.register(
            "hook_effective",
            "1 if the last self test saw its connection redirected, else 0",
            self.effective.clone(),
        );
        registry.register_collector(Box::new(LoadedCounters(Arc::clone(&self.counters))));
    }

    pub(super) fn hook(&self) -> probes::Hook {
        self.told().hook.clone()
    }

    /// How long ago the last self test ended, and why it failed.
    pub(super) fn tested(&self) -> Option<(Duration, Option<String>)> {
        let told = self.told();
        let (ended, error) = told.tested.as_ref()?;
        Some((ended.elapsed(), error.clone()))
    }

    fn works(&self) {
        self.attached.set(1);
        self.effective.set(1);
        let mut told = self.told();
        told.hook.state = probes::HookState::Working;
        told.hook.reason = None;
        told.tested = Some((Instant::now(), None));
    }

    fn fails(&self, attached: bool, error: &anyhow::Error) {
        self.attached.set(attached.into());
        self.effective.set(0);
        let reason = format!("{error:#}");
        let mut told = self.told();
        if attached {
            told.tested = Some((Instant::now(), Some(reason.clone())));
        }
        told.hook.state = probes::HookState::Failed;
        told.hook.reason = Some(reason);
    }

    fn ended(&self) {
        self.attached.set(0);
        self.effective.set(0);
        let mut told = self.told();
        told.hook.state = probes::HookState::Off;
        told.hook.reason = Some("the agent is stopping".into());
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows nothing before there are programs that count.
#[derive(Debug)]
struct LoadedCounters(Arc<ArcSwapOption<Counters>>);

impl Collector for LoadedCounters {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        match self.0.load_full() {
            Some(counters) => counters.encode(encoder),
            None => Ok(()),
        }
    }
}

impl Keeper {
    pub(super) fn new(
        root: PathBuf,
        options: datapath::Options,
        loaded: mpsc::Sender<Loaded>,
        state: HookState,
        readiness: Readiness,
        own: Arc<OwnPod>,
    ) -> Self {
        Self {
            root,
            options,
            loaded,
            state,
            prepared: None,
            hook: None,
            attached: false,
            readiness,
            own,
            unready: None,
        }
    }

    /// Loads the programs, unless that fails: then it is tried again when they are needed.
    ///
    /// This takes three times the memory that an idle agent has, for a moment: aya reads all
    /// types of the kernel before it can be told that nobody needs them. Done first, others get
    /// that memory afterwards.
    #[must_use]
    pub(super) fn prepared(self) -> Self {
        let prepared = Datapath::load(&self.options);
        if let Err(error) = &prepared {
            debug!(%error, "the programs cannot be loaded yet");
        }
        Self {
            prepared: prepared.ok(),
            ..self
        }
    }

    /// Tries once at once, which `tried` tells of, and then again and again, until `stop`. Then
    /// nothing is redirected any more, and what was redirected before has come.
    pub(super) async fn run(mut self, tried: oneshot::Sender<()>, stop: CancellationToken) {
        let mut tried = Some(tried);
        let mut pause = Duration::ZERO;
        loop {
            let tending = async {
                sleep(pause).await;
                self.tend().await
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                works = tending => pause = if works || !self.attached { INTERVAL } else { AGAIN },
            }
            if let Some(tried) = tried.take() {
                // Who asked has given up.
                let _ = tried.send(());
            }
        }
        self.end().await;
    }

    /// Whether the hook works now.
    async fn tend(&mut self) -> bool {
        let was = self.attached;
        let Err(error) = self.attach_or_prove().await else {
            self.unready = None;
            self.state.works();
            return true;
        };
        let told = self.state.hook().reason;
        self.state.fails(self.attached, &error);
        self.hold_back(&error);
        // Once, as long as it stays the same.
        if was || told != self.state.hook().reason {
            let error = format!("{error:#}");
            error!(error, "without the hook, connections come by the Services");
        }
        false
    }

    /// An agent with a hook that is attached and does not work is not ready, so that an upgrade
    /// stops at the first node. Where the hook cannot be attached there is nothing to wait for. And
    /// where Services lead to the agents, nobody else would be there.
    ///
    /// One failure is enough: [`Hook::prove`] has tried twice, and before the first success there
    /// is nothing that could flap.
    fn hold_back(&mut self, error: &anyhow::Error) {
        self.unready = (self.attached && !self.own.is_endpoint())
            .then(|| self.readiness.latch(format!("the hook ({error:#})")));
    }

    async fn attach_or_prove(&mut self) -> anyhow::Result<()> {
        let hook = match self.hook.take() {
            Some(hook) => hook,
            None => self.announced().await?,
        };
        let hook = self.hook.insert(hook);
        hook.datapath.origins().sweep(STALE);
        let done = if self.attached {
            hook.prove().await
        } else {
            hook.attach().await
        };
        self.attached = hook.datapath.is_attached();
        Ok(done?)
    }

    /// The programs, loaded and with their tables filled; not attached yet.
    async fn announced(&mut self) -> anyhow::Result<Hook> {
        // Not on the thread of everybody else: the one reads many directories, the other all types
        // of the kernel, every minute where it fails.
        let root = self.root.clone();
        let AttachPoint { path, .. } = spawn_blocking(move || attach_point(&root)).await??;
        self.state.told().hook.cgroup = Some(path.display().to_string());
        let options = self.options;
        let mut datapath = match self.prepared.take() {
            Some(datapath) => datapath,
            None => spawn_blocking(move || Datapath::load(&options)).await??,
        };
        if let Some(log) = datapath.kernel_log()? {
            tokio::spawn(log.forward());
        }
        let cgroups = PodCgroups::new(&path);
        // Who is who, before anybody connects.
        cgroups.scan().await?;
        let (ready, filled) = oneshot::channel();
        let message = Loaded {
            virtual_ips: datapath.virtual_ips(),
            callers: datapath.callers(),
            exempt: datapath.exempt(),
            origins: datapath.origins(),
            refusals: datapath.refusals()?,
            cgroups,
            ready,
        };
        let counters = Arc::new(datapath.counters());
        self.state.counters.store(Some(counters));
        let handed_over = self.loaded.send(message).await;
        handed_over.map_err(|_ended| anyhow::anyhow!("the agent is stopping"))?;
        filled.await?;
        Ok(Hook::new(datapath, path))
    }

    async fn end(&mut self) {
        self.state.ended();
        let Some(hook) = &mut self.hook else { return };
        hook.datapath.stop_redirecting();
        tokio::time::sleep(HANDSHAKES).await;
        hook.datapath.detach();
        info!("connections are no longer redirected");
    }
}
