//! The pods that a watch knows, for whoever wants to know who is calling.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::cluster::slim::Slim;
use crate::cluster::watch::{Health, Sink};
use crate::resolve::pods::{Owner, Pod, PodUid, Pods};

/// Once the API server denies access, addresses are believed for so long: longer than it takes to
/// repair a role or a certificate, and than an API server that has just begun denies by mistake.
/// Afterwards too many pods may have gone, whose addresses others have got.
const BELIEVED: Duration = Duration::from_mins(15);

/// The kubelet makes static pods; the API server knows them by mirrors with other uids.
/// <https://kubernetes.io/docs/reference/labels-annotations-taints/#kubernetes-io-config-mirror>
const MIRROR: &str = "kubernetes.io/config.mirror";

/// What is read of a pod.
pub(super) type ApiPod = Slim<core::Pod, Spec, Status>;

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    #[serde(default)]
    host_network: bool,
    #[serde(default)]
    containers: Vec<IgnoredAny>,
    #[serde(default)]
    init_containers: Vec<InitContainer>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct InitContainer {
    restart_policy: Option<String>,
}

impl Spec {
    /// Those that run together; init containers do if they are restarted always.
    /// <https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/>
    pub(super) fn has_several_containers(&self) -> bool {
        let stays = |one: &&InitContainer| one.restart_policy.as_deref() == Some("Always");
        self.containers.len() + self.init_containers.iter().filter(stays).count() > 1
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Status {
    phase: Option<String>,
    #[serde(rename = "podIPs", default)]
    pod_ips: Vec<PodIp>,
}

#[derive(Debug, Clone, Deserialize)]
struct PodIp {
    ip: String,
}

/// Clones share what is known.
#[derive(Debug, Clone, Default)]
pub(super) struct PodTable(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    pods: RwLock<Pods>,
    listed: AtomicBool,
    age: Mutex<Age>,
    changed: watch::Sender<()>,
}

/// How old what is known may be.
#[derive(Debug, Default)]
struct Age {
    watch: Option<Health>,
    /// How old it was when it was restored, and when that was.
    restored: Option<(Duration, Instant)>,
}

impl PodTable {
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Pods> {
        self.0.pods.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose address it is, as far as that can be relied on.
    pub(super) fn owner(&self, address: IpAddr) -> Owner {
        if self.is_outdated() {
            return Owner::Unknown;
        }
        self.read().by_address(address)
    }

    /// The same; waits for a pod that is not known yet.
    pub(super) async fn owner_soon(&self, address: IpAddr, patience: Duration) -> Option<Owner> {
        let known = |pods: &Pods| match pods.by_address(address) {
            Owner::Unknown => None,
            owner => Some(owner),
        };
        let found = self.wait_for(patience, known).await;
        found.filter(|_| !self.is_outdated())
    }

    /// Whether the API server does not tell any more who has which address, and has not for long.
    /// While it is away nobody gets an address either, so that is something else.
    fn is_outdated(&self) -> bool {
        let age = self.age();
        let Some(known_for) = age.watch.as_ref().and_then(Health::denied) else {
            return false;
        };
        let known_for = match age.restored {
            Some((before, at)) if !self.is_listed() => before + at.elapsed(),
            _ => known_for,
        };
        known_for >= BELIEVED
    }

    /// Whether there was a complete list once.
    pub(super) fn is_listed(&self) -> bool {
        self.0.listed.load(Ordering::Acquire)
    }

    /// Tells whenever something may have changed.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    /// Waits until `look` finds what it wants, not longer than `patience`.
    pub(super) async fn wait_for<T>(
        &self,
        patience: Duration,
        look: impl Fn(&Pods) -> Option<T>,
    ) -> Option<T> {
        let mut changes = self.changes();
        let deadline = Instant::now() + patience;
        loop {
            if let Some(found) = look(&self.read()) {
                return Some(found);
            }
            if !matches!(timeout_at(deadline, changes.changed()).await, Ok(Ok(()))) {
                return None;
            }
        }
    }

    /// Adds what was known before a restart, `age` ago, until it is listed.
    pub(super) fn restore(&self, pods: impl IntoIterator<Item = Pod>, age: Duration) {
        if self.is_listed() {
            return;
        }
        self.age().restored = Some((age, Instant::now()));
        let mut known = self.write();
        for mut pod in pods {
            pod.namespace = known.namespace(&pod.namespace);
            known.restore(pod);
        }
        self.tell(known);
    }

    /// As if there never was a watch.
    pub(super) fn forget(&self) {
        let mut pods = self.write();
        *pods = Pods::default();
        *self.age() = Age::default();
        self.0.listed.store(false, Ordering::Release);
        self.tell(pods);
    }

    fn write(&self) -> RwLockWriteGuard<'_, Pods> {
        self.0.pods.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn age(&self) -> MutexGuard<'_, Age> {
        self.0.age.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, pod: &ApiPod) {
        let mut pods = self.write();
        let Some(pod) = convert(pod, &mut pods) else {
            return;
        };
        if pods.apply(pod) {
            self.tell(pods);
        }
    }

    /// After the lock is released, so that who is woken does not wait for it.
    fn tell(&self, pods: RwLockWriteGuard<'_, Pods>) {
        drop(pods);
        self.0.changed.send_replace(());
    }
}

impl Sink<ApiPod> for PodTable {
    fn watched(&mut self, health: &Health) {
        self.age().watch = Some(health.clone());
    }

    fn begin(&mut self) {
        self.write().begin_list();
    }

    fn listed(&mut self, pod: ApiPod) {
        self.apply(&pod);
    }

    fn finish(&mut self) {
        let mut pods = self.write();
        pods.end_list();
        self.0.listed.store(true, Ordering::Release);
        self.tell(pods);
    }

    fn applied(&mut self, pod: ApiPod) {
        self.apply(&pod);
    }

    fn deleted(&mut self, pod: ApiPod) {
        let Some(uid) = uid(&pod) else { return };
        let mut pods = self.write();
        pods.remove(uid);
        self.tell(pods);
    }
}

fn uid(pod: &ApiPod) -> Option<PodUid> {
    PodUid::parse(pod.metadata.uid.as_deref()?)
}

fn convert(pod: &ApiPod, pods: &mut Pods) -> Option<Pod> {
    let metadata = &pod.metadata;
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    let mirrored = metadata.annotations.as_ref().and_then(|all| all.get(MIRROR));
    let addresses = status.map_or(&[][..], |status| &status.pod_ips);
    Some(Pod {
        uid: uid(pod)?,
        cgroup_uid: mirrored.and_then(|hash| PodUid::parse(hash)),
        namespace: pods.namespace(metadata.namespace.as_deref()?),
        name: metadata.name.as_deref()?.into(),
        addresses: addresses
            .iter()
            .filter_map(|address| address.ip.parse().ok())
            .collect(),
        host_network: pod.spec.as_ref().is_some_and(|spec| spec.host_network),
        ended: matches!(phase, Some("Succeeded" | "Failed")),
        terminating: metadata.deletion_timestamp.is_some(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    pub(super) fn pod(number: u8, change: &Value) -> ApiPod {
        let mut pod = json!({
            "metadata": {
                "name": format!("pod-{number}"),
                "namespace": "shop",
                "uid": format!("00000000-0000-0000-0000-0000000000{number:02}"),
            },
            "spec": {"containers": [{"name": "app", "image": "app"}]},
            "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": format!("10.0.0.{number}")}]},
        });
        merge(&mut pod, change);
        serde_json::from_value(pod).unwrap()
    }

    fn merge(into: &mut Value, change: &Value) {
        match change {
            Value::Object(change) => change
                .iter()
                .for_each(|(name, value)| merge(&mut into[name], value)),
            value => *into = value.clone(),
        }
    }

    fn named(pods: &Pods, address: &str) -> Option<String> {
        match pods.by_address(address.parse().unwrap()) {
            Owner::Pod(pod) => Some(pod.to_string()),
            Owner::Shared | Owner::Unknown => None,
        }
    }

    #[test]
    fn what_matters_of_a_pod_is_read() {
        let mut table = PodTable::default();
        table.applied(pod(1, &json!({})));
        assert_eq!(named(&table.read(), "10.0.0.1").as_deref(), Some("shop/pod-1"));
        table.applied(pod(1, &json!({"status": {"phase": "Succeeded"}})));
        assert_eq!(named(&table.read(), "10.0.0.1"), None);
        table.applied(pod(2, &json!({"spec": {"hostNetwork": true}})));
        assert_eq!(
            table.read().by_address("10.0.0.2".parse().unwrap()),
            Owner::Shared
        );
        table.deleted(pod(2, &json!({})));
        assert_eq!(
            table.read().by_address("10.0.0.2".parse().unwrap()),
            Owner::Unknown
        );
        table.applied(pod(3, &json!({"status": null})));
        assert_eq!(table.read().len(), 2);
    }

    #[test]
    fn a_mirror_is_known_by_what_it_mirrors() {
        let mut table = PodTable::default();
        let hash = "0123456789abcdef0123456789abcdef";
        table.applied(pod(1, &json!({"metadata": {"annotations": {MIRROR: hash}}})));
        let found = table.read().by_uid(PodUid::parse(hash).unwrap()).cloned();
        assert_eq!(found.unwrap().name.as_ref(), "pod-1");
    }

    #[tokio::test(start_paused = true)]
    async fn one_waits_for_a_pod_and_not_for_ever() {
        let table = PodTable::default();
        let look = |pods: &Pods| named(pods, "10.0.0.1");
        assert_eq!(table.wait_for(Duration::from_secs(2), look).await, None);
        let waiting = table.wait_for(Duration::from_secs(2), look);
        let mut writer = table.clone();
        let writing = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            writer.applied(pod(9, &json!({})));
            tokio::time::sleep(Duration::from_millis(500)).await;
            writer.applied(pod(1, &json!({})));
        };
        let (found, ()) = tokio::join!(waiting, writing);
        assert_eq!(found.as_deref(), Some("shop/pod-1"));
    }

    #[test]
    fn what_is_restored_yields_to_a_list() {
        let mut table = PodTable::default();
        table.applied(pod(1, &json!({})));
        let remembered: Vec<Pod> = table.read().all().map(|pod| Pod::clone(pod)).collect();
        let mut restarted = PodTable::default();
        restarted.restore(remembered.clone(), Duration::ZERO);
        assert!(!restarted.is_listed());
        assert_eq!(
            named(&restarted.read(), "10.0.0.1").as_deref(),
            Some("shop/pod-1")
        );
        restarted.begin();
        restarted.finish();
        assert!(restarted.is_listed());
        assert_eq!(named(&restarted.read(), "10.0.0.1"), None);
        restarted.restore(remembered, Duration::ZERO);
        assert_eq!(named(&restarted.read(), "10.0.0.1"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_are_not_believed_for_ever_where_the_api_server_denies_to_tell() {
        let address = "10.0.0.1".parse().unwrap();
        let is_known = |table: &PodTable| matches!(table.owner(address), Owner::Pod(_));
        let mut table = PodTable::default();
        table.applied(pod(1, &json!({})));
        table.finish();
        let remembered: Vec<Pod> = table.read().all().map(|pod| Pod::clone(pod)).collect();
        table.watched(&Health::of_denied());
        tokio::time::advance(BELIEVED / 2).await;
        assert!(is_known(&table));
        tokio::time::advance(BELIEVED / 2).await;
        assert!(!is_known(&table));
        assert_eq!(table.owner_soon(address, Duration::from_secs(2)).await, None);
        assert!(
            table.read().by_uid(remembered[0].uid).is_some(),
            "no uid is given twice"
        );

        let mut restarted = PodTable::default();
        restarted.watched(&Health::of_denied());
        restarted.restore(remembered, BELIEVED / 2);
        assert!(is_known(&restarted));
        tokio::time::advance(BELIEVED / 2).await;
        assert!(!is_known(&restarted), "a memory is older than the process");
    }
}
