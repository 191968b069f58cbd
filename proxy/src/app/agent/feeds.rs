//! What the API server tells, as far as an agent wants to know.
//!
//! Watches write what they see where it is looked up, at once; whoever has to do something
//! about it is told that there is something to do.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client};
use serde_json::Value;
use tokio::sync::watch;
use tracing::{debug, warn};

use super::all_pods::AllPods;
use super::pod_table::{ApiPod, PodTable, Spec};
use super::snapshot::Own;
use crate::api::destination::{Destination, DestinationSpec};
use crate::api::labels;
use crate::cluster::slim::Slim;
use crate::cluster::watch::{Health, Query, Sink, Task, Watches};
use crate::resolve::directory::{Changed, Cr, CrName, Directory, Entrance, Entry, NoEntrance};
use crate::resolve::source::secrets::Writer;

/// The directory with its writers, the watches, and its one reader that acts. Clones share it.
#[derive(Clone)]
pub(super) struct Known(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<()>,
    services_listed: AtomicBool,
    crs_listed: AtomicBool,
}

struct State {
    directory: Directory,
    /// Services whose entries have to be looked at.
    dirty: BTreeSet<Arc<str>>,
}

impl Known {
    pub(super) fn new(directory: Directory) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                directory,
                dirty: BTreeSet::new(),
            }),
            changed: watch::Sender::default(),
            services_listed: AtomicBool::new(false),
            crs_listed: AtomicBool::new(false),
        }))
    }

    /// Tells whenever entries may be different, or a list is complete.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    /// The entries that may be different since the last call, as they are now.
    pub(super) fn take_changes(&self) -> Vec<(Arc<str>, Option<Entry>)> {
        let mut state = self.state();
        let dirty = std::mem::take(&mut state.dirty);
        let entry = |service: Arc<str>| (Arc::clone(&service), state.directory.entry(&service));
        dirty.into_iter().map(entry).collect()
    }

    /// What has never been listed completely.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        let lists = [
            ("Services", &self.0.services_listed),
            ("Destination resources", &self.0.crs_listed),
        ];
        let missing = lists
            .into_iter()
            .filter(|(_, listed)| !listed.load(Ordering::Acquire));
        missing.map(|(name, _)| name).collect()
    }

    /// For whoever looks without acting.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Directory) -> T) -> T {
        look(&self.state().directory)
    }

    /// Adds what was known before a restart, until it is listed.
    pub(super) fn restore(&self, entrances: Vec<Entrance>, crs: Vec<Cr>) {
        self.change(|directory| directory.restore(entrances, crs));
    }

    fn change(&self, change: impl FnOnce(&mut Directory) -> Changed) {
        let mut state = self.state();
        let changed = change(&mut state.directory);
        if changed.is_empty() {
            return;
        }
        state.dirty.extend(changed);
        drop(state);
        self.0.changed.send_replace(());
    }

    /// A CR is different. That concerns connections, too, that have outlived its Service.
    fn change_cr(&self, change: impl FnOnce(&mut Directory) -> Changed) {
        self.change(change);
        self.0.changed.send_replace(());
    }

    fn listed(&self, which: &AtomicBool) {
        which.store(true, Ordering::Release);
        self.0.changed.send_replace(());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A Destination CR without its status; each is understood alone.
type ApiCr = Slim<Destination, Value>;

struct Services(Known);

impl Services {
    fn apply(&self, service: &Service) {
        match Entrance::of(service) {
            Ok(entrance) => self.0.change(|directory| directory.apply_entrance(entrance)),
            Err(reason) => {
                let name = service.metadata.name.as_deref().unwrap_or_default();
                if reason == NoEntrance::NoAddress {
                    debug!(service = name, %reason, "Service is not served yet");
                } else {
                    warn!(service = name, %reason, "Service is not served");
                }
                self.0.change(|directory| directory.remove_entrance(name));
            }
        }
    }
}

impl Sink<Service> for Services {
    fn begin(&mut self) {
        self.0.state().directory.begin_entrances();
    }

    fn listed(&mut self, service: Service) {
        self.apply(&service);
    }

    fn finish(&mut self) {
        self.0.change(Directory::end_entrances);
        self.0.listed(&self.0.0.services_listed);
    }

    fn applied(&mut self, service: Service) {
        self.apply(&service);
    }

    fn deleted(&mut self, service: Service) {
        let name = service.metadata.name.unwrap_or_default();
        self.0.change(|directory| directory.remove_entrance(&name));
    }
}

struct Crs(Known);

impl Crs {
    fn apply(&self, cr: ApiCr) {
        if let Some(cr) = essence(cr) {
            self.0.change_cr(|directory| directory.apply_cr(cr));
        }
    }
}

fn essence(cr: ApiCr) -> Option<Cr> {
    match DestinationSpec::understand(cr.spec) {
        Ok(spec) => {
            let mut whole = Destination::new("", spec);
            whole.metadata = cr.metadata;
            Cr::of(whole)
        }
        Err(why) => {
            let name = name_of(cr.metadata)?;
            warn!(destination = %name, error = why, "the Destination CR is not understood, and not served");
            Some(Cr::broken(name, why))
        }
    }
}

fn name_of(metadata: ObjectMeta) -> Option<CrName> {
    Some(CrName {
        namespace: metadata.namespace?.into(),
        name: metadata.name?.into(),
    })
}

impl Sink<ApiCr> for Crs {
    fn begin(&mut self) {
        self.0.state().directory.begin_crs();
    }

    fn listed(&mut self, cr: ApiCr) {
        self.apply(cr);
    }

    fn finish(&mut self) {
        self.0.change(Directory::end_crs);
        self.0.listed(&self.0.0.crs_listed);
    }

    fn applied(&mut self, cr: ApiCr) {
        self.apply(cr);
    }

    fn deleted(&mut self, cr: ApiCr) {
        if let Some(name) = name_of(cr.metadata) {
            self.0.change_cr(|directory| directory.remove_cr(&name));
        }
    }
}

/// The Secrets of one namespace.
struct Secrets {
    writer: Arc<Mutex<Writer>>,
    namespace: String,
    known: Known,
}

impl Secrets {
    fn write(&self, write: impl FnOnce(&mut Writer)) {
        write(&mut self.writer.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Sink<Secret> for Secrets {
    fn begin(&mut self) {
        self.write(|writer| writer.init(&self.namespace));
    }

    fn listed(&mut self, secret: Secret) {
        self.write(|writer| writer.init_apply(secret));
    }

    fn finish(&mut self) {
        self.write(|writer| writer.init_done(&self.namespace));
        self.known.0.changed.send_replace(());
    }

    fn applied(&mut self, secret: Secret) {
        self.write(|writer| writer.apply(secret));
    }

    fn deleted(&mut self, secret: Secret) {
        self.write(|writer| writer.delete(secret));
    }
}

/// What matters about the pod that this process is in. Whoever has a list of pods knows it.
#[derive(Debug, Default)]
pub(super) struct OwnPod {
    /// Otherwise nothing is known of it.
    seen: AtomicBool,
    /// A service mesh sends others' connections from the pod's own loopback address.
    meshed: AtomicBool,
    /// Services lead to it.
    endpoint: AtomicBool,
}

/// What injectors of sidecars write on pods.
const MESHES: [&str; 3] = [
    "sidecar.istio.io/status",
    "linkerd.io/proxy-version",
    "kuma.io/sidecar-injected",
];

impl OwnPod {
    /// Whether it is, or may be as long as nothing is known.
    pub(super) fn is_meshed(&self) -> bool {
        !self.seen.load(Ordering::Acquire) || self.meshed.load(Ordering::Relaxed)
    }

    pub(super) fn is_endpoint(&self) -> bool {
        self.endpoint.load(Ordering::Relaxed)
    }

    pub(super) fn remember(&self, pod: &str) -> Own {
        Own {
            pod: pod.to_owned(),
            meshed: self.is_meshed(),
            endpoint: self.is_endpoint(),
        }
    }

    /// What was known before a restart. Sidecars come with a pod: about that of another pod there
    /// is nothing known.
    pub(super) fn restore(&self, remembered: &Own, pod: &str) {
        self.see(remembered.meshed || remembered.pod != pod);
        self.endpoint.store(remembered.endpoint, Ordering::Relaxed);
    }

    /// Whether that it is meshed is news.
    fn see(&self, meshed: bool) -> bool {
        let was_meshed = self.meshed.swap(meshed, Ordering::Relaxed);
        self.seen.store(true, Ordering::Release);
        meshed && !was_meshed
    }
}

/// Pods, and an eye on one's own.
struct PodsAndOwn {
    table: PodTable,
    own_name: (String, String),
    own: Arc<OwnPod>,
    all: AllPods,
    known: Known,
}

impl PodsAndOwn {
    fn look(&self, pod: &ApiPod) {
        let (namespace, name) = &self.own_name;
        let metadata = &pod.metadata;
        if metadata.name.as_ref() != Some(name) || metadata.namespace.as_ref() != Some(namespace) {
            return;
        }
        let annotated = |name: &&str| {
            metadata
                .annotations
                .as_ref()
                .is_some_and(|all| all.contains_key(*name))
        };
        // Annotations may be missing, and are the injectors' own; the containers tell of any sidecar.
        let is_accompanied = pod.spec.as_ref().is_some_and(Spec::has_several_containers);
        if self.own.see(is_accompanied || MESHES.iter().any(annotated)) {
            warn!("a sidecar is in this pod, so connections of port-forward count as unknown");
        }
        let labels = metadata.labels.as_ref();
        let endpoint = labels.is_some_and(|labels| labels.contains_key(labels::FALLBACK));
        self.own.endpoint.store(endpoint, Ordering::Relaxed);
        if endpoint {
            self.all.keep_for_ever();
        }
    }
}

impl Sink<ApiPod> for PodsAndOwn {
    fn watched(&mut self, health: &Health) {
        self.table.watched(health);
    }

    fn begin(&mut self) {
        self.table.begin();
    }

    fn listed(&mut self, pod: ApiPod) {
        self.look(&pod);
        self.table.listed(pod);
    }

    fn finish(&mut self) {
        self.table.finish();
        self.known.0.changed.send_replace(());
    }

    fn applied(&mut self, pod: ApiPod) {
        self.look(&pod);
        self.table.applied(pod);
    }

    fn deleted(&mut self, pod: ApiPod) {
        self.table.deleted(pod);
    }
}

/// Starts watches.
#[derive(Clone)]
pub(super) struct Feeds {
    pub(super) client: Client,
    pub(super) watches: Watches,
    /// The installation namespace.
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) known: Known,
    pub(super) own: Arc<OwnPod>,
    pub(super) all: AllPods,
}

impl Feeds {
    /// The Services that the manager of this installation has made.
    pub(super) fn services(&self) -> Task {
        let labels = format!(
            "{}={},{}={}",
            labels::MANAGED_BY,
            labels::MANAGER,
            labels::INSTALLATION,
            self.namespace
        );
        let api = Api::namespaced(self.client.clone(), &self.namespace);
        let query = Query::new(api, "Services").labels(labels);
        query.feed(&self.watches, Services(self.known.clone()))
    }

    pub(super) fn crs(&self) -> Task {
        let query: Query<ApiCr> = Query::new(Api::all(self.client.clone()), "Destination resources");
        query.feed(&self.watches, Crs(self.known.clone()))
    }

    /// The Secrets of one namespace that are destinations.
    pub(super) fn secrets(&self, namespace: &str, writer: &Arc<Mutex<Writer>>) -> Task {
        let api = Api::namespaced(self.client.clone(), namespace);
        let mut query = Query::new(api, "Secrets").labels(labels::DESTINATION);
        if namespace != self.namespace {
            query = query.dispensable();
        }
        let sink = Secrets {
            writer: Arc::clone(writer),
            namespace: namespace.to_owned(),
            known: self.known.clone(),
        };
        query.feed(&self.watches, sink)
    }

    pub(super) fn pods_of_node(&self, node: &str, table: PodTable) -> Task {
        let query: Query<ApiPod> = Query::new(Api::all(self.client.clone()), "Pods of this node");
        let query = query.fields(format!("spec.nodeName={node}"));
        query.feed(&self.watches, self.pods_into(table))
    }

    pub(super) fn pods_of_all(&self, table: PodTable) -> Task {
        let query: Query<ApiPod> = Query::new(Api::all(self.client.clone()), "Pods");
        query.feed(&self.watches, self.pods_into(table))
    }

    fn pods_into(&self, table: PodTable) -> PodsAndOwn {
        PodsAndOwn {
            table,
            own_name: (self.namespace.clone(), self.pod.clone()),
            own: Arc::clone(&self.own),
            all: self.all.clone(),
            known: self.known.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::destination::Scope;

    fn own_pod(metadata: &Value) -> ApiPod {
        let mut pod = json!({"metadata": {
            "name": "agent-1",
            "namespace": "tp",
            "uid": "00000000-0000-0000-0000-000000000001",
        }});
        for (name, value) in metadata.as_object().unwrap() {
            pod["metadata"][name] = value.clone();
        }
        serde_json::from_value(pod).unwrap()
    }

    fn with_own_pod() -> (Arc<OwnPod>, PodsAndOwn) {
        let own = Arc::<OwnPod>::default();
        let pods = PodsAndOwn {
            table: PodTable::default(),
            own_name: ("tp".to_owned(), "agent-1".to_owned()),
            own: Arc::clone(&own),
            all: AllPods::default(),
            known: Known::new(Directory::new(Scope::Namespaced)),
        };
        (own, pods)
    }

    #[test]
    fn the_own_pod_says_whether_it_is_in_a_mesh_and_whether_services_lead_to_it() {
        let (own, mut pods) = with_own_pod();
        for mesh in MESHES {
            pods.applied(own_pod(&json!({"annotations": {mesh: "x"}})));
            assert_eq!((own.is_meshed(), own.is_endpoint()), (true, false), "{mesh}");
            pods.applied(own_pod(&json!({"annotations": {"other": "x"}})));
            assert!(!own.is_meshed());
        }
        let another = json!({"name": "agent-2", "annotations": {MESHES[0]: "x"}});
        pods.applied(own_pod(&another));
        assert!(!own.is_meshed());
        pods.applied(own_pod(&json!({"labels": {labels::FALLBACK: "true"}})));
        assert!(own.is_endpoint());
    }

    #[test]
    fn a_pod_that_is_not_seen_yet_may_be_in_a_mesh() {
        let (own, mut pods) = with_own_pod();
        assert!(own.is_meshed());
        pods.applied(own_pod(&json!({"name": "agent-2"})));
        assert!(own.is_meshed(), "that is another one");
        pods.applied(own_pod(&json!({})));
        assert!(!own.is_meshed());
    }

    #[test]
    fn a_container_beside_ours_may_be_a_sidecar_of_a_mesh() {
        let (own, mut pods) = with_own_pod();
        let mut with = |spec: Value| {
            let mut pod = json!({"metadata": {"name": "agent-1", "namespace": "tp"}});
            pod["spec"] = spec;
            pods.applied(serde_json::from_value(pod).unwrap());
            own.is_meshed()
        };
        let agent = json!({"name": "agent"});
        let sidecar = json!({"name": "proxy"});
        let native = json!({"name": "proxy", "restartPolicy": "Always"});
        assert!(!with(json!({"containers": [agent]})));
        assert!(with(json!({"containers": [agent, sidecar]})));
        assert!(!with(json!({"containers": [agent], "initContainers": [sidecar]})));
        assert!(with(json!({"containers": [agent], "initContainers": [native]})));
    }
}
