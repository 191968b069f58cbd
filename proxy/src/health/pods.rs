//! The pods of the installation, without what nobody asks for here.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Affinity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::Deserialize;

use super::SlimPod;
use crate::api::labels;

const MANAGER: &str = "manager";
const PROXY: &str = "http-proxy";

/// A pod that runs or is about to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pod {
    pub(super) part: Part,
    /// Deployment or `DaemonSet`; the pod's own name where it belongs to neither.
    pub(super) owner: String,
    /// An agent is meant for one before it is scheduled, others are not.
    pub(super) node: Option<String>,
    pub(super) name: String,
    pub(super) ready: bool,
    pub(super) address: Option<IpAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Manager,
    /// One per node, with the hook.
    Agent,
    Fallback,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    node_name: Option<String>,
    affinity: Option<Affinity>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodStatus {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Deserialize)]
struct Condition {
    r#type: String,
    status: String,
}

impl Pod {
    /// None for one that has ended or is about to, and for other parts of the installation.
    pub(super) fn of(pod: SlimPod) -> Option<Self> {
        let ends = pod.metadata.deletion_timestamp.is_some();
        let status = pod.status;
        let phase = status.as_ref().and_then(|status| status.phase.as_deref());
        if ends || matches!(phase, Some("Succeeded" | "Failed")) {
            return None;
        }
        let controller = controller(&pod.metadata);
        let is_agent = controller.is_some_and(|owner| owner.kind == "DaemonSet");
        let part = match (component(&pod.metadata)?, is_agent) {
            (MANAGER, _) => Part::Manager,
            (PROXY, true) => Part::Agent,
            (PROXY, false) => Part::Fallback,
            _ => return None,
        };
        Some(Self {
            part,
            owner: owner(&pod.metadata, controller),
            node: pod.spec.and_then(node),
            ready: status.as_ref().is_some_and(PodStatus::is_ready),
            address: status.and_then(|status| status.pod_ip?.parse().ok()),
            name: pod.metadata.name?,
        })
    }

    /// `<DaemonSet>/<node>`
    pub(super) fn place(&self) -> String {
        format!("{}/{}", self.owner, self.node.as_deref().unwrap_or("unscheduled"))
    }
}

impl PodStatus {
    fn is_ready(&self) -> bool {
        let ready = self
            .conditions
            .iter()
            .find(|condition| condition.r#type == "Ready");
        ready.is_some_and(|condition| condition.status == "True")
    }
}

fn node(spec: Spec) -> Option<String> {
    let node = spec.node_name.filter(|node| !node.is_empty());
    node.or_else(|| meant_for(spec.affinity?))
}

/// The controller of a `DaemonSet` makes each pod for one node, and says so in every term.
/// <https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/#how-daemon-pods-are-scheduled>
fn meant_for(affinity: Affinity) -> Option<String> {
    let required = affinity
        .node_affinity?
        .required_during_scheduling_ignored_during_execution?;
    let terms = required.node_selector_terms.into_iter();
    let mut fields = terms.flat_map(|term| term.match_fields.unwrap_or_default());
    let by_name = fields.find(|field| field.key == "metadata.name" && field.operator == "In")?;
    by_name.values?.into_iter().next()
}

fn component(metadata: &ObjectMeta) -> Option<&str> {
    metadata
        .labels
        .as_ref()?
        .get(labels::COMPONENT)
        .map(String::as_str)
}

fn controller(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    let owners = metadata.owner_references.as_deref().unwrap_or_default();
    owners.iter().find(|owner| owner.controller == Some(true))
}

/// A Deployment's `ReplicaSets` are called like it, with the hash of their template behind.
fn owner(metadata: &ObjectMeta, controller: Option<&OwnerReference>) -> String {
    let hash = metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get("pod-template-hash"));
    let Some(controller) = controller else {
        return metadata.name.clone().unwrap_or_default();
    };
    let deployment = hash.and_then(|hash| controller.name.strip_suffix(hash.as_str())?.strip_suffix('-'));
    deployment.unwrap_or(&controller.name).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(change: impl FnOnce(&mut Value)) -> Option<Pod> {
        let mut object = json!({
            "metadata": {
                "name": "sap-transp-proxy-abcde",
                "labels": {labels::COMPONENT: "http-proxy"},
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "sap-transp-proxy", "uid": "1", "controller": true,
                }],
            },
            "spec": {"nodeName": "node-1"},
            "status": {
                "phase": "Running",
                "podIP": "10.244.1.7",
                "conditions": [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "True"}],
            },
        });
        change(&mut object);
        Pod::of(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn an_agent_is_known_by_its_daemon_set() {
        let pod = pod(|_| {}).unwrap();
        assert_eq!((pod.part, pod.ready), (Part::Agent, true));
        assert_eq!(pod.place(), "sap-transp-proxy/node-1");
        assert_eq!(pod.address, Some(IpAddr::from([10, 244, 1, 7])));
    }

    #[test]
    fn a_fallback_is_known_by_its_deployment() {
        let pod = pod(|pod| {
            pod["metadata"]["labels"]["pod-template-hash"] = "7d4f".into();
            pod["metadata"]["ownerReferences"][0]["kind"] = "ReplicaSet".into();
            pod["metadata"]["ownerReferences"][0]["name"] = "sap-transp-proxy-fallback-7d4f".into();
        });
        let pod = pod.unwrap();
        assert_eq!(
            (pod.part, &*pod.owner),
            (Part::Fallback, "sap-transp-proxy-fallback")
        );
    }

    #[test]
    fn a_pod_that_is_not_scheduled_is_not_ready() {
        let pod = pod(|pod| {
            pod["spec"] = json!({});
            pod["status"] = json!({"phase": "Pending"});
        });
        let pod = pod.unwrap();
        assert!(!pod.ready);
        assert_eq!(pod.place(), "sap-transp-proxy/unscheduled");
    }

    #[test]
    fn an_agent_that_is_not_scheduled_is_named_by_the_node_that_it_is_meant_for() {
        let pod = pod(|pod| {
            pod["spec"] = json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{
                    "matchExpressions": [{"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]}],
                    "matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-7"]}],
                }],
            }}}});
            pod["status"] = json!({"phase": "Pending"});
        });
        assert_eq!(pod.unwrap().place(), "sap-transp-proxy/node-7");
    }

    #[test]
    fn pods_that_end_or_are_somebody_elses_do_not_count() {
        let none: [fn(&mut Value); 4] = [
            |pod| pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into(),
            |pod| pod["status"]["phase"] = "Failed".into(),
            |pod| pod["status"]["phase"] = "Succeeded".into(),
            |pod| pod["metadata"]["labels"][labels::COMPONENT] = "healthcheck".into(),
        ];
        for change in none {
            assert_eq!(pod(change), None);
        }
    }
}
