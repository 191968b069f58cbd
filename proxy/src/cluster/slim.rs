//! Objects of which only the needed parts are read.
//!
//! The API server sends whole objects; what is not named here is skipped while it is parsed and
//! never costs memory. Half of a typical object is `managedFields`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::Resource;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

/// A `K` of which `spec` and `status` are read as `S` and `T`.
pub struct Slim<K, S = IgnoredAny, T = IgnoredAny> {
    pub metadata: ObjectMeta,
    pub spec: Option<S>,
    pub status: Option<T>,
    kind: PhantomData<fn() -> K>,
}

/// Of a `K`, the metadata.
pub type Metadata<K> = Slim<K>;

impl<K, S: fmt::Debug, T: fmt::Debug> fmt::Debug for Slim<K, S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slim")
            .field("metadata", &self.metadata)
            .field("spec", &self.spec)
            .field("status", &self.status)
            .finish()
    }
}

impl<K, S: Clone, T: Clone> Clone for Slim<K, S, T> {
    fn clone(&self) -> Self {
        Self {
            metadata: self.metadata.clone(),
            spec: self.spec.clone(),
            status: self.status.clone(),
            kind: PhantomData,
        }
    }
}

impl<'de, K, S: Deserialize<'de>, T: Deserialize<'de>> Deserialize<'de> for Slim<K, S, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Object<S, T> {
            #[serde(deserialize_with = "metadata")]
            metadata: ObjectMeta,
            // No `default`: it would ask for `S: Default`.
            spec: Option<S>,
            status: Option<T>,
        }
        let object = Object::deserialize(deserializer)?;
        Ok(Self {
            metadata: object.metadata,
            spec: object.spec,
            status: object.status,
            kind: PhantomData,
        })
    }
}

impl<K: Resource, S, T> Resource for Slim<K, S, T> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::kind(dynamic)
    }

    fn group(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::group(dynamic)
    }

    fn version(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::version(dynamic)
    }

    fn plural(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::plural(dynamic)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Reads metadata without `managedFields`.
pub fn metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Fields {
        name: Option<String>,
        namespace: Option<String>,
        uid: Option<String>,
        resource_version: Option<String>,
        generation: Option<i64>,
        creation_timestamp: Option<Time>,
        deletion_timestamp: Option<Time>,
        labels: Option<BTreeMap<String, String>>,
        annotations: Option<BTreeMap<String, String>>,
        owner_references: Option<Vec<OwnerReference>>,
    }
    let fields = Fields::deserialize(deserializer)?;
    Ok(ObjectMeta {
        name: fields.name,
        namespace: fields.namespace,
        uid: fields.uid,
        resource_version: fields.resource_version,
        generation: fields.generation,
        creation_timestamp: fields.creation_timestamp,
        deletion_timestamp: fields.deletion_timestamp,
        labels: fields.labels,
        annotations: fields.annotations,
        owner_references: fields.owner_references,
        ..ObjectMeta::default()
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    #[derive(Debug, Clone, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Status {
        #[serde(rename = "podIP")]
        pod_ip: Option<String>,
    }

    #[test]
    fn only_the_named_parts_are_read() {
        let pod: Slim<Pod, IgnoredAny, Status> = serde_json::from_value(serde_json::json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "a", "managedFields": [{"manager": "kubelet"}], "labels": {"x": "y"}},
            "spec": {"containers": [{"name": "c"}]},
            "status": {"podIP": "10.0.0.1", "phase": "Running"},
        }))
        .unwrap();
        assert_eq!(pod.metadata.managed_fields, None);
        assert_eq!(pod.metadata.labels.unwrap()["x"], "y");
        assert_eq!(pod.status.unwrap().pod_ip.as_deref(), Some("10.0.0.1"));
    }

    #[test]
    fn absent_parts_are_none() {
        let pod: Slim<Pod, Status, Status> = serde_json::from_str(r#"{"metadata": {"name": "a"}}"#).unwrap();
        assert!(pod.spec.is_none() && pod.status.is_none());
    }
}
