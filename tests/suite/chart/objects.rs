//! Objects as the chart renders them.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, PodSpec, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub struct Object {
    pub json: Value,
}

/// A pod or what pods are made of.
pub struct PodTemplate {
    /// Of the object: `DaemonSet sap-transp-proxy`.
    pub of: String,
    pub labels: BTreeMap<String, String>,
    pub spec: PodSpec,
}

impl Object {
    pub fn new(json: Value) -> Self {
        Self { json }
    }

    pub fn kind(&self) -> &str {
        self.text("/kind").expect("objects have kinds")
    }

    pub fn name(&self) -> &str {
        self.text("/metadata/name").expect("objects have names")
    }

    pub fn namespace(&self) -> Option<&str> {
        self.text("/metadata/namespace")
    }

    pub fn id(&self) -> String {
        match self.namespace() {
            Some(namespace) => format!("{} {namespace}/{}", self.kind(), self.name()),
            None => format!("{} {}", self.kind(), self.name()),
        }
    }

    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.json["metadata"]["annotations"][key].as_str()
    }

    pub fn is_hook(&self) -> bool {
        self.annotation("helm.sh/hook").is_some()
    }

    fn text(&self, pointer: &str) -> Option<&str> {
        self.json.pointer(pointer)?.as_str()
    }

    pub fn typed<T: DeserializeOwned>(&self) -> T {
        T::deserialize(&self.json).unwrap_or_else(|error| panic!("{}: {error}", self.id()))
    }

    /// What is left after Kubernetes has read it: fields that it does not know are dropped.
    pub fn as_kubernetes_reads_it(&self) -> Value {
        match self.kind() {
            "ClusterRole" => self.read_as::<ClusterRole>(),
            "ClusterRoleBinding" => self.read_as::<ClusterRoleBinding>(),
            "ConfigMap" => self.read_as::<ConfigMap>(),
            "CustomResourceDefinition" => self.read_as::<CustomResourceDefinition>(),
            "DaemonSet" => self.read_as::<DaemonSet>(),
            "Deployment" => self.read_as::<Deployment>(),
            "HorizontalPodAutoscaler" => self.read_as::<HorizontalPodAutoscaler>(),
            "Job" => self.read_as::<Job>(),
            "Pod" => self.read_as::<Pod>(),
            "Namespace" => self.read_as::<Namespace>(),
            "NetworkPolicy" => self.read_as::<NetworkPolicy>(),
            "PodDisruptionBudget" => self.read_as::<PodDisruptionBudget>(),
            "PriorityClass" => self.read_as::<PriorityClass>(),
            "Role" => self.read_as::<Role>(),
            "RoleBinding" => self.read_as::<RoleBinding>(),
            "Secret" => self.read_as::<Secret>(),
            "Service" => self.read_as::<Service>(),
            "ServiceAccount" => self.read_as::<ServiceAccount>(),
            other => panic!("{other} is new here"),
        }
    }

    fn read_as<T: Serialize + DeserializeOwned>(&self) -> Value {
        serde_json::to_value(self.typed::<T>()).expect("objects are JSON")
    }

    pub fn pod_template(&self) -> Option<PodTemplate> {
        let template = match self.kind() {
            "DaemonSet" | "Deployment" | "Job" => &self.json["spec"]["template"],
            "Pod" => &self.json,
            _ => return None,
        };
        let labels = serde_json::from_value(template["metadata"]["labels"].clone());
        let spec = serde_json::from_value(template["spec"].clone());
        Some(PodTemplate {
            of: format!("{} {}", self.kind(), self.name()),
            labels: labels.expect("pods have labels"),
            spec: spec.expect("pods have a spec"),
        })
    }
}

/// Does a selector take these labels?
pub fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}
