//! Destinations: a Secret of the installation, and the resource of a namespace.

use serde_json::{Value, json};

const LABEL: &str = "transparent-proxy.connectivity.api.sap/destination";

/// A destination resource with the name of its destination.
pub struct Destination {
    name: String,
    properties: Value,
    spec: Value,
}

impl Destination {
    fn new(name: &str, properties: Value) -> Self {
        Self {
            name: name.to_owned(),
            properties,
            spec: json!({ "destinationRef": { "name": name } }),
        }
    }

    pub fn http(name: &str, url: &str) -> Self {
        Self::new(
            name,
            json!({ "Type": "HTTP", "URL": url, "ProxyType": "Internet", "Authentication": "NoAuthentication" }),
        )
    }

    pub fn tcp(name: &str, address: impl std::fmt::Display) -> Self {
        let address = format!("tcp://{address}");
        Self::new(
            name,
            json!({ "Type": "TCP", "Address": address, "ProxyType": "Internet" }),
        )
    }

    pub fn with_basic(mut self, user: &str, password: &str) -> Self {
        self.properties["Authentication"] = "BasicAuthentication".into();
        self.properties["User"] = user.into();
        self.properties["Password"] = password.into();
        self
    }

    pub fn cluster_wide(mut self) -> Self {
        self.spec["accessControl"] = json!({ "scope": "clusterWide" });
        self
    }

    pub fn port(mut self, port: u16) -> Self {
        self.spec["service"] = json!({ "port": port });
        self
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn secret(&self, installation: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": self.name, "namespace": installation, "labels": { (LABEL): "true" } },
            "stringData": self.properties,
        })
    }

    pub fn resource(&self, namespace: &str) -> Value {
        json!({
            "apiVersion": "destination.connectivity.api.sap/v1", "kind": "Destination",
            "metadata": { "name": self.name, "namespace": namespace },
            "spec": self.spec,
        })
    }
}
