//! The pods that a watch knows, for whoever wants to know who is calling.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::cluster::slim::Slim;
use crate::cluster::watch::Sink;
use crate::resolve::pods::{Pod, PodUid, Pods};

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
    changed: watch::Sender<()>,
}

impl PodTable {
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Pods> {
        self.0.pods.read().unwrap_or_else(PoisonError::into_inner)
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

    /// Adds what was known before a restart, until it is listed.
    pub(super) fn restore(&self, pods: Vec<Pod>) {
        if self.is_listed() {
            return;
        }
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
        self.0.listed.store(false, Ordering::Release);
        self.tell(pods);
    }

    fn write(&self) -> RwLockWriteGuard<'_, Pods> {
        self.0.pods.write().unwrap_or_else(PoisonError::into_inner)
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
    use crate::resolve::pods::Owner;

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
        restarted.restore(remembered.clone());
        assert!(!restarted.is_listed());
        assert_eq!(
            named(&restarted.read(), "10.0.0.1").as_deref(),
            Some("shop/pod-1")
        );
        restarted.begin();
        restarted.finish();
        assert!(restarted.is_listed());
        assert_eq!(named(&restarted.read(), "10.0.0.1"), None);
        restarted.restore(remembered);
        assert_eq!(named(&restarted.read(), "10.0.0.1"), None);
    }
}
