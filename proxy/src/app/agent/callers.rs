//! Who opened a connection: by the word of the kernel, else by the source address.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::net::TcpStream;
use tracing::warn;

use super::all_pods::AllPods;
use super::feeds::OwnPod;
use super::pod_table::PodTable;
use crate::datapath::pods::PodCgroups;
use crate::datapath::{self, Origins};
use crate::resolve::pods::{Owner, PodUid};
use crate::resolve::scope::{Caller, Unknown, is_port_forward};

/// So long a caller may be unknown: the API server tells of a pod shortly after it has begun to run.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether it matters who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Enough to wait for it.
    Certain,
    /// What is known without waiting.
    AtHand,
}

/// What a connection tells of who opened it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Trace {
    /// By the word of the kernel.
    Cgroup(u64),
    Source(IpAddr),
}

/// What the hook knows of callers.
#[derive(Debug, Clone)]
pub(super) struct Kernel {
    pub(super) origins: Origins,
    pub(super) cgroups: PodCgroups,
    pub(super) callers: datapath::Callers,
}

pub(super) struct Callers {
    /// Set while the programs are loaded.
    kernel: ArcSwapOption<Kernel>,
    /// The pods of this node; empty where there is no hook.
    node: PodTable,
    all: AllPods,
    own: Arc<OwnPod>,
}

impl Callers {
    pub(super) fn new(node: PodTable, all: AllPods, own: Arc<OwnPod>) -> Self {
        Self {
            kernel: ArcSwapOption::empty(),
            node,
            all,
            own,
        }
    }

    pub(super) fn use_kernel(&self, kernel: Kernel) {
        self.kernel.store(Some(Arc::new(kernel)));
    }

    pub(super) fn trace(&self, stream: &TcpStream, source: IpAddr) -> Trace {
        let kernel = self.kernel.load();
        let origin = kernel.as_ref().and_then(|kernel| kernel.origin_of(stream));
        origin.map_or(Trace::Source(source), |origin| Trace::Cgroup(origin.cgroup))
    }

    pub(super) async fn identify(&self, trace: Trace, wanted: Wanted) -> Caller {
        match (wanted, trace) {
            (Wanted::AtHand, trace) => self.at_hand(trace),
            (Wanted::Certain, Trace::Cgroup(cgroup)) => self.by_cgroup(cgroup).await,
            (Wanted::Certain, Trace::Source(source)) => match self.by_port_forward(source) {
                Some(caller) => caller,
                None => self.by_address(source).await,
            },
        }
    }

    /// What is known without waiting.
    pub(super) fn at_hand(&self, trace: Trace) -> Caller {
        match trace {
            Trace::Cgroup(cgroup) => self.known_by_cgroup(cgroup),
            Trace::Source(source) => self
                .by_port_forward(source)
                .unwrap_or_else(|| Caller::by_address(self.owner_at_hand(source))),
        }
    }

    /// From the proxy's own pod.
    fn by_port_forward(&self, source: IpAddr) -> Option<Caller> {
        is_port_forward(source).then(|| {
            if self.own.is_meshed() {
                Caller::Unknown(Unknown::SharedAddress)
            } else {
                Caller::PortForward
            }
        })
    }

    /// The virtual IP and port that a connection was opened to, if the hook has redirected it.
    pub(super) fn meant(&self, stream: &TcpStream) -> Option<SocketAddr> {
        self.kernel
            .load()
            .as_ref()?
            .origin_of(stream)
            .map(|origin| origin.wanted)
    }

    /// The pod that a cgroup belongs to, if that is known by now.
    pub(super) fn known_by_cgroup(&self, cgroup: u64) -> Caller {
        let Some(kernel) = self.kernel.load_full() else {
            return Caller::Unknown(Unknown::Pod);
        };
        match kernel
            .cgroups
            .known(cgroup)
            .and_then(|uid| PodUid::parse(uid.as_str()))
        {
            None => Caller::Unknown(Unknown::NodeProcess),
            Some(uid) => {
                let pod = self.node.read().by_uid(uid).cloned();
                pod.map_or(Caller::Unknown(Unknown::Pod), Caller::Pod)
            }
        }
    }

    /// Pods whose namespace the kernel knows, by the uids that their cgroups are named by.
    pub(super) fn known_to_kernel(&self) -> HashSet<PodUid> {
        let Some(kernel) = self.kernel.load_full() else {
            return HashSet::new();
        };
        let cgroups = kernel.cgroups.outermost().borrow().clone();
        let known = cgroups
            .iter()
            .filter(|(cgroup, _)| kernel.callers.get(**cgroup).is_some());
        known.filter_map(|(_, uid)| PodUid::parse(uid.as_str())).collect()
    }

    async fn by_cgroup(&self, cgroup: u64) -> Caller {
        let Some(kernel) = self.kernel.load_full() else {
            return Caller::Unknown(Unknown::Pod);
        };
        let uid = kernel.cgroups.find(cgroup).await;
        let Some(uid) = uid.and_then(|uid| PodUid::parse(uid.as_str())) else {
            return Caller::Unknown(Unknown::NodeProcess);
        };
        let pod = self
            .node
            .wait_for(PATIENCE, |pods| pods.by_uid(uid).cloned())
            .await;
        pod.map_or(Caller::Unknown(Unknown::Pod), Caller::Pod)
    }

    async fn by_address(&self, source: IpAddr) -> Caller {
        Caller::by_address(match self.owner_at_hand(source) {
            Owner::Unknown => self.owner_soon(source).await,
            owner => owner,
        })
    }

    fn owner_at_hand(&self, source: IpAddr) -> Owner {
        match self.node.owner(source) {
            Owner::Unknown => self.all.owner_at_hand(source),
            owner => owner,
        }
    }

    /// Pods of this node are watched with the hook anyhow; those of others where somebody asks.
    async fn owner_soon(&self, source: IpAddr) -> Owner {
        tokio::select! {
            Some(owner) = self.node.owner_soon(source, PATIENCE) => owner,
            owner = self.all.owner(source, PATIENCE) => owner,
        }
    }
}

impl Kernel {
    /// Of a connection that this agent's own hook has redirected.
    fn origin_of(&self, stream: &TcpStream) -> Option<datapath::Caller> {
        match self.origins.of(stream) {
            Ok(origin) => origin,
            Err(error) => {
                warn!(%error, "the kernel does not say who opened a connection");
                None
            }
        }
    }
}
