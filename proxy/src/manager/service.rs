//! Services: the ones that there are, and the ones that there should be.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;
use kube::Resource as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Installation;
use crate::api::destination::Destination;
use crate::api::labels;
use crate::cluster::slim::Slim;
use crate::cluster::watch::Key;
use crate::resolve::check::{Configured, Kind};

const EXTERNAL_NAME: &str = "ExternalName";

pub(super) type Wire = Slim<v1::Service, Spec>;

/// What is read of a Service.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    r#type: Option<String>,
    external_name: Option<String>,
    ip_family_policy: Option<String>,
    selector: Option<BTreeMap<String, String>>,
    ports: Option<Vec<WirePort>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WirePort {
    name: Option<String>,
    app_protocol: Option<String>,
    protocol: Option<String>,
    port: u16,
    target_port: Option<IntOrString>,
}

/// A Service of the cluster. Of those that are not ours only their being there is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    Foreign,
    Ours(Box<Ours>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ours {
    /// Writes are conditional on it: it is the Service that was looked at, or none.
    pub(super) version: String,
    pub(super) created: Timestamp,
    /// The Destination CR that it was made for.
    pub(super) cr: Key,
    pub(super) shape: Shape,
}

/// What we say about a Service, besides its labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    kind: String,
    external_name: Option<String>,
    ip_family_policy: Option<String>,
    selector: BTreeMap<String, String>,
    ports: Vec<Port>,
    /// The uid of the owning CR.
    owner: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Port {
    name: String,
    app_protocol: String,
    protocol: String,
    number: u16,
    target: Option<u16>,
}

impl Seen {
    pub(super) fn read(wire: Wire, installation: &Installation) -> Self {
        let meta = wire.metadata;
        let labels = meta.labels.unwrap_or_default();
        let Some(cr) = made_for(&labels, installation) else {
            return Self::Foreign;
        };
        let owner = meta
            .owner_references
            .unwrap_or_default()
            .into_iter()
            .find(|owner| owner.kind == Destination::kind(&()));
        Self::Ours(Box::new(Ours {
            version: meta.resource_version.unwrap_or_default(),
            created: meta
                .creation_timestamp
                .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            cr,
            shape: Shape::read(wire.spec, owner.map(|owner| owner.uid)),
        }))
    }

    pub(super) fn ours(&self) -> Option<&Ours> {
        match self {
            Self::Foreign => None,
            Self::Ours(ours) => Some(ours),
        }
    }
}

impl Ours {
    /// The target port, which the Service itself remembers.
    pub(super) fn target_port(&self) -> Option<u16> {
        self.shape.ports.first()?.target
    }

    /// How the CR is served, as far as the Service says.
    pub(super) fn configured(&self) -> Option<Configured> {
        let port = self.shape.ports.first()?;
        let kind = [Kind::Http, Kind::Tcp]
            .into_iter()
            .find(|kind| port.name == name_of(*kind))?;
        Some(Configured {
            kind,
            default_port: port.number,
        })
    }
}

/// The CR in the labels, if all of ours are there and name this installation.
fn made_for(labels: &BTreeMap<String, String>, installation: &Installation) -> Option<Key> {
    let get = |key: &str| labels.get(key).map(String::as_str);
    let is_ours = get(labels::MANAGED_BY) == Some(labels::MANAGER)
        && get(labels::INSTALLATION) == Some(&installation.namespace);
    let cr = Key::new(
        get(labels::DESTINATION_NAMESPACE)?,
        get(labels::DESTINATION_NAME)?,
    );
    is_ours.then_some(cr)
}

impl Shape {
    fn read(spec: Option<Spec>, owner: Option<String>) -> Self {
        let (mut ports, kind, external_name, ip_family_policy, selector) =
            spec.map_or_else(Default::default, |spec| {
                (
                    spec.ports.unwrap_or_default(),
                    spec.r#type.unwrap_or_default(),
                    spec.external_name,
                    spec.ip_family_policy,
                    spec.selector.unwrap_or_default(),
                )
            });
        // Nobody connects to the ports of an external name.
        if kind == EXTERNAL_NAME {
            for port in &mut ports {
                port.target_port = None;
            }
        }
        Self {
            kind,
            external_name,
            ip_family_policy,
            selector,
            ports: ports.into_iter().map(Port::read).collect(),
            owner,
        }
    }
}

/// Of the port.
fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Http => "http",
        Kind::Tcp => "tcp",
    }
}

impl Port {
    fn read(wire: WirePort) -> Self {
        Self {
            name: wire.name.unwrap_or_default(),
            app_protocol: wire.app_protocol.unwrap_or_default(),
            protocol: wire.protocol.unwrap_or_default(),
            number: wire.port,
            target: match wire.target_port {
                Some(IntOrString::Int(port)) => port.try_into().ok(),
                _ => None,
            },
        }
    }

    fn wanted(kind: Kind, port: u16, target: Option<u16>) -> Self {
        Self {
            name: name_of(kind).to_owned(),
            app_protocol: name_of(kind).to_owned(),
            // The default, but part of what identifies a port in the list.
            protocol: "TCP".to_owned(),
            number: port,
            target,
        }
    }

    fn body(&self) -> Value {
        let mut body = json!({
            "name": self.name,
            "appProtocol": self.app_protocol,
            "protocol": self.protocol,
            "port": self.number,
        });
        if let Some(target) = self.target {
            body["targetPort"] = target.into();
        }
        body
    }
}

/// A Service that there should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) key: Key,
    cr: Key,
    shape: Shape,
}

/// What the Services of a CR expose.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exposed<'a> {
    pub(super) cr: &'a Key,
    pub(super) uid: &'a str,
    pub(super) kind: Kind,
    pub(super) port: u16,
    pub(super) target_port: u16,
}

impl Wanted {
    /// The one with the virtual IP, and one that leads to it from the namespace of the CR.
    pub(super) fn of(exposed: Exposed<'_>, installation: &Installation) -> Vec<Self> {
        let mut all = vec![Self::with_virtual_ip(exposed, installation)];
        if *exposed.cr.namespace != *installation.namespace {
            all.push(Self::leading_there(exposed, installation));
        }
        all
    }

    fn with_virtual_ip(exposed: Exposed<'_>, installation: &Installation) -> Self {
        // Owners must be in the namespace of what they own.
        let is_beside = *exposed.cr.namespace == *installation.namespace;
        Self {
            key: Key::new(&installation.namespace, &exposed.cr.name),
            cr: exposed.cr.clone(),
            shape: Shape {
                kind: "ClusterIP".to_owned(),
                external_name: None,
                ip_family_policy: Some("PreferDualStack".to_owned()),
                selector: [(labels::FALLBACK.to_owned(), "true".to_owned())].into(),
                ports: vec![Port::wanted(
                    exposed.kind,
                    exposed.port,
                    Some(exposed.target_port),
                )],
                owner: is_beside.then(|| exposed.uid.to_owned()),
            },
        }
    }

    fn leading_there(exposed: Exposed<'_>, installation: &Installation) -> Self {
        Self {
            key: exposed.cr.clone(),
            cr: exposed.cr.clone(),
            shape: Shape {
                kind: EXTERNAL_NAME.to_owned(),
                external_name: Some(installation.name_of(&exposed.cr.name)),
                ip_family_policy: None,
                selector: BTreeMap::new(),
                ports: vec![Port::wanted(exposed.kind, exposed.port, None)],
                owner: Some(exposed.uid.to_owned()),
            },
        }
    }

    pub(super) fn is_there(&self, seen: &Ours) -> bool {
        self.cr == seen.cr && self.shape == seen.shape
    }

    /// For a request that makes it.
    pub(super) fn body(&self, installation: &Installation) -> Value {
        let labels = json!({
            (labels::MANAGED_BY): labels::MANAGER,
            (labels::INSTALLATION): installation.namespace,
            (labels::DESTINATION_NAMESPACE): &*self.cr.namespace,
            (labels::DESTINATION_NAME): &*self.cr.name,
        });
        let ports: Vec<Value> = self.shape.ports.iter().map(Port::body).collect();
        let mut body = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "namespace": &*self.key.namespace,
                "name": &*self.key.name,
                "labels": labels,
            },
            "spec": {"type": self.shape.kind, "ports": ports},
        });
        if let Some(name) = &self.shape.external_name {
            body["spec"]["externalName"] = name.as_str().into();
        }
        if let Some(policy) = &self.shape.ip_family_policy {
            body["spec"]["ipFamilyPolicy"] = policy.as_str().into();
        }
        if !self.shape.selector.is_empty() {
            body["spec"]["selector"] = json!(self.shape.selector);
        }
        if let Some(uid) = &self.shape.owner {
            body["metadata"]["ownerReferences"] = json!([self.owner(uid)]);
        }
        body
    }

    /// For a request that changes the Service that was seen into this one. Lists are replaced,
    /// everything that is not ours stays, the virtual IP too.
    pub(super) fn change(&self, seen: &Ours, installation: &Installation) -> Value {
        let mut change = self.body(installation);
        change["metadata"]["resourceVersion"] = seen.version.as_str().into();
        // In a merge patch, null removes.
        for key in seen.shape.selector.keys() {
            if !self.shape.selector.contains_key(key) {
                change["spec"]["selector"][key] = Value::Null;
            }
        }
        if self.shape.external_name.is_none() && seen.shape.external_name.is_some() {
            change["spec"]["externalName"] = Value::Null;
        }
        if self.shape.owner.is_none() && seen.shape.owner.is_some() {
            change["metadata"]["ownerReferences"] = Value::Null;
        }
        change
    }

    fn owner(&self, uid: &str) -> Value {
        json!({
            "apiVersion": Destination::api_version(&()),
            "kind": Destination::kind(&()),
            "name": &*self.cr.name,
            "uid": uid,
            "controller": true,
        })
    }
}
