//! How the installation is: its pods, its Destination resources, the hooks on its nodes.
//!
//! *Assumptions*: pods of this installation are in its namespace and have the component's label;
//! what a destination speaks is the `appProtocol` of the Service that the manager made.

mod destinations;
mod hooks;
mod metrics;
mod page;
mod pods;
mod server;
mod status;
mod wanted;

pub use self::server::serve;
pub use self::wanted::AGENTS;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::{Namespace, Pod as PodObject, Service as ServiceObject};
use kube::{Api, Client};
use prometheus_client::registry::Registry;

use self::destinations::{Destinations, Row};
use self::hooks::Hooks;
use self::pods::Pod;
use self::status::{Plane, Status, Used};
use crate::api::labels;
use crate::cluster::slim::{Metadata, Slim};
use crate::cluster::watch::{Query, Reader, Task, Watches};
use crate::config::kubernetes::ManagedNamespacesMode;

/// API servers send something every minute; a watch asks again after 150 s without.
const WORRYING_SILENCE: Duration = Duration::from_mins(5);

/// What is known of an installation. Kept current by watches.
#[derive(Debug)]
pub struct Installation {
    pods: Reader<Pod>,
    /// How many nodes want an agent; nothing where there are to be none.
    wanted: Reader<usize>,
    services: Reader<Plane>,
    destinations: Reader<Row>,
    /// Those that are managed; none where all are.
    namespaces: Option<Reader<()>>,
    watches: Watches,
    hooks: Hooks,
}

/// What to look at.
#[derive(Debug, Clone)]
pub struct Config {
    /// The installation namespace.
    pub namespace: String,
    pub managed: ManagedNamespacesMode,
    /// Where agents answer probes.
    pub agent_probes: u16,
}

impl Installation {
    /// The watches are to be run by the caller.
    pub fn watch(
        client: &Client,
        config: &Config,
        watches: &Watches,
    ) -> (Arc<Self>, impl Future<Output = ()> + use<>) {
        let mut tasks = Vec::new();
        let namespace = &config.namespace;
        let pods = Query::new(Api::namespaced(client.clone(), namespace), "pods").labels(labels::COMPONENT);
        let wanted = Query::new(Api::namespaced(client.clone(), namespace), "daemonsets")
            .fields(format!("metadata.name={AGENTS}"));
        let services = Query::new(Api::namespaced(client.clone(), namespace), "services").labels(format!(
            "{}={},{}={namespace}",
            labels::MANAGED_BY,
            labels::MANAGER,
            labels::INSTALLATION
        ));
        let destinations = Query::<destinations::Wire>::new(Api::all(client.clone()), "destinations");
        let namespaces = (config.managed == ManagedNamespacesMode::LabelSelector).then(|| {
            let query = Query::new(Api::<Metadata<Namespace>>::all(client.clone()), "namespaces");
            let query = query.labels(format!("{}={namespace}", labels::NAMESPACE));
            started(&mut tasks, query.start(watches, |_| Some(()), |_| {}))
        });
        let installation = Self {
            pods: started(&mut tasks, pods.start(watches, Pod::of, |_| {})),
            wanted: started(&mut tasks, wanted.start(watches, wanted::nodes, |_| {})),
            services: started(
                &mut tasks,
                services.start(watches, |service| Some(Plane::of(&service)), |_| {}),
            ),
            destinations: started(
                &mut tasks,
                destinations.start(watches, |cr| Some(Row::of(cr)), |_| {}),
            ),
            namespaces,
            watches: watches.clone(),
            hooks: Hooks::new(config.agent_probes),
        };
        let all = async {
            join_all(tasks).await;
        };
        (Arc::new(installation), all)
    }

    /// Registers `destination_crs`.
    pub fn register(self: &Arc<Self>, registry: &mut Registry) {
        metrics::register(Arc::clone(self), registry);
    }

    /// None before everything was listed once.
    async fn status(&self) -> Option<Status> {
        let pods = self.pods()?;
        let hooks = self.hooks.of(&pods).await;
        let used = self.used().filter(|_| self.wanted.is_synced())?;
        let wanted = self.wanted.all().first().map(|(_, nodes)| **nodes);
        Some(Status::of(&pods, wanted, &hooks, used, self.silence()))
    }

    fn destinations(&self) -> Option<Destinations> {
        let synced = self.destinations.is_synced() && self.namespaces.as_ref().is_none_or(Reader::is_synced);
        synced.then(|| Destinations::of(self.managed_rows()))
    }

    fn managed_rows(&self) -> Vec<Arc<Row>> {
        let mut rows = Vec::new();
        self.destinations.for_each(|key, row| {
            if self.is_managed(&key.namespace) {
                rows.push(Arc::clone(row));
            }
        });
        rows
    }

    fn is_managed(&self, namespace: &str) -> bool {
        let all = self.namespaces.as_ref();
        all.is_none_or(|managed| managed.get("", namespace).is_some())
    }

    fn pods(&self) -> Option<Vec<Arc<Pod>>> {
        self.pods.is_synced().then(|| {
            let mut pods: Vec<_> = self.pods.all().into_iter().map(|(_, pod)| pod).collect();
            pods.sort();
            pods
        })
    }

    fn used(&self) -> Option<Used> {
        self.services.is_synced().then(|| {
            let mut used = Used::default();
            self.services.for_each(|_, plane| used.add(**plane));
            used
        })
    }

    /// How long nothing was heard of the API server, if that is too long.
    fn silence(&self) -> Option<Duration> {
        let reports = self.watches.reports();
        let silence = reports.iter().map(|report| report.since_event).max()?;
        (silence >= WORRYING_SILENCE).then_some(silence)
    }
}

fn started<T>(tasks: &mut Vec<Task>, (reader, task): (Reader<T>, Task)) -> Reader<T> {
    tasks.push(task);
    reader
}

type SlimPod = Slim<PodObject, pods::Spec, pods::PodStatus>;
type SlimService = Slim<ServiceObject, status::ServiceSpec>;
