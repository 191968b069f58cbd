//! Destination CRs become Services, and get the condition that says whether they work.
//!
//! Watches keep a [picture](world) of the cluster; whatever changes puts a name into a [queue]; all
//! that has the name is [planned](plan) together, and [written](writer) if this process [leads](lease).
//!
//! *Guarantees*: nothing is written where nothing has to change, but for the lease; nothing is
//! touched that does not carry our labels; a write that was meant for another state of the cluster
//! than there is fails.

mod custom_resource;
mod destinations;
mod lease;
mod metrics;
mod plan;
mod ports;
mod queue;
mod reconcile;
mod service;
mod terms;
mod world;
mod writer;

pub use self::destinations::Destinations;
pub use self::metrics::Metrics;

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube::{Api, Client};
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinSet};
use uuid::Uuid;

pub use self::lease::Renewals;
use self::lease::{Elector, Leadership, Timing};
use self::ports::Ports;
use self::queue::Queue;
use self::reconcile::Reconciler;
use self::terms::Terms;
use self::world::{Sources, World};
use self::writer::Writer;
use crate::cluster::watch::{Task, Watches};
use crate::config::kubernetes::ManagedNamespacesMode;
use crate::resolve::source::secrets;

/// Of the Deployment, as the chart names it, and of the Lease by which its pods agree on one of them.
pub const NAME: &str = "sap-transp-proxy-manager";

/// Which installation of the proxy in the cluster this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    pub namespace: String,
    /// Of the cluster's names.
    pub domain: String,
}

impl Installation {
    /// Of the Service in the installation namespace.
    fn name_of(&self, service: &str) -> String {
        format!("{service}.{}.svc.{}", self.namespace, self.domain)
    }
}

#[derive(Debug, Clone)]
pub struct Config {
    pub installation: Installation,
    /// Of this pod: who holds the lease.
    pub pod: String,
    pub managed_namespaces: ManagedNamespacesMode,
    pub target_ports: RangeInclusive<u16>,
    /// How often everything is looked at.
    pub interval: Duration,
}

/// A manager, put together.
pub struct Manager {
    config: Config,
    queue: Queue,
    reconciler: Arc<Reconciler>,
    leadership: Leadership,
    elector: Elector,
    tasks: JoinSet<()>,
}

impl Manager {
    /// Watches begin here, `feeding` among them, which is what feeds the sources of destinations;
    /// nothing is written before [`Self::run`].
    pub fn new(
        config: Config,
        client: &Client,
        watches: &Watches,
        destinations: Destinations,
        feeding: Vec<Task>,
        metrics: Metrics,
    ) -> Self {
        let queue = Queue::default();
        let installation = Arc::new(config.installation.clone());
        let sources = Sources {
            client,
            watches,
            mode: config.managed_namespaces,
        };
        let (world, watching) = World::watch(&installation, &sources, &queue);
        let mut tasks = JoinSet::new();
        for task in watching.into_iter().chain(feeding) {
            tasks.spawn(async { match task.await {} });
        }
        // Never the same for two processes, whatever their pods are called.
        let identity = format!("{}_{}", config.pod, Uuid::new_v4());
        let leases = Api::namespaced(client.clone(), &installation.namespace);
        let (elector, leadership) = Elector::new(leases, NAME, identity, Timing::default());
        let reconciler = Arc::new(Reconciler {
            world,
            destinations,
            ports: Mutex::new(Ports::new(config.target_ports.clone())),
            writer: Writer {
                client: client.clone(),
                installation,
                pod: config.pod.clone(),
                managed: config.managed_namespaces,
                leadership: leadership.clone(),
                metrics,
            },
            troubles: Mutex::default(),
        });
        Self {
            config,
            queue,
            reconciler,
            leadership,
            elector,
            tasks,
        }
    }

    /// Tells whether it leads.
    pub fn leading(&self) -> impl Fn() -> bool + Send + Sync + use<> {
        let leadership = self.leadership.clone();
        move || leadership.remaining().is_some()
    }

    /// Works whenever it leads, until `stop` resolves.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), Broken> {
        let mut changes = self.reconciler.destinations.changes();
        let (world, queue) = (Arc::clone(&self.reconciler.world), self.queue.clone());
        self.tasks.spawn(async move {
            while let Some(change) = changes.next().await {
                match change {
                    secrets::Change::All => push_all(&world, &queue),
                    secrets::Change::Names(names) => {
                        for name in world.names_referring_to(&names) {
                            queue.push(&name);
                        }
                    }
                }
            }
        });
        let (release, released) = oneshot::channel::<()>();
        let mut electing = tokio::spawn(self.elector.run(async {
            let _ = released.await;
        }));
        let mut terms = Terms::new(self.config, self.queue, self.reconciler, self.leadership);
        let ended = tokio::select! {
            broken = terms.serve() => Err(broken),
            Some(Err(panic)) = self.tasks.join_next() => Err(Broken(panic)),
            Err(panic) = &mut electing => Err(Broken(panic)),
            () = stop => Ok(()),
        };
        terms.finish().await;
        // Only now, when nothing is written any more, may somebody else begin.
        drop(release);
        if !electing.is_finished() {
            let _ = electing.await;
        }
        ended
    }
}

/// A part that never ends has ended. Without it the rest would look healthy and do nothing.
#[derive(Debug, thiserror::Error)]
#[error("a part of the manager broke")]
pub struct Broken(#[source] JoinError);

fn push_all(world: &World, queue: &Queue) {
    for name in world.names() {
        queue.push(&name);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{Request, Response};
    use kube::client::Body;

    use super::*;

    /// Answers nothing, and breaks whoever asks for the lease.
    fn client() -> Client {
        let service = tower::service_fn(|request: Request<Body>| async move {
            assert!(!request.uri().path().contains("/leases"), "for a test");
            std::future::pending::<Result<Response<Body>, Infallible>>().await
        });
        Client::new(service, "tp")
    }

    #[tokio::test]
    async fn without_its_elector_a_manager_ends() {
        let config = Config {
            installation: Installation {
                namespace: "tp".to_owned(),
                domain: "cluster.local".to_owned(),
            },
            pod: "this".to_owned(),
            managed_namespaces: ManagedNamespacesMode::All,
            target_ports: 10_000..=10_009,
            interval: Duration::from_mins(1),
        };
        let (_writer, secrets) = secrets::store([]);
        let destinations = Destinations {
            secrets,
            settings: crate::config::kubernetes::File::default(),
        };
        let manager = Manager::new(
            config,
            &client(),
            &Watches::default(),
            destinations,
            Vec::new(),
            Metrics::default(),
        );
        let ended = manager.run(std::future::pending());
        let ended = tokio::time::timeout(Duration::from_secs(10), ended).await;
        ended.expect("it ends").expect_err("a part broke");
    }
}
