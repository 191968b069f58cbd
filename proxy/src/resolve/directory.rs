//! Which port and virtual IPs belong to which Destination CR, as Services and CRs say.
//!
//! Pure: whoever watches the API server tells the [`Directory`], and learns what is
//! different. An entry is there when both are, the CR and the Service that was made for it.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::scope::Audience;
use crate::api::destination::Scope;
use crate::api::destination::{Destination, DestinationSpec};
use crate::api::labels;

/// Name of a Destination CR.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CrName {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl CrName {
    /// `None` for an object that no API server has made.
    pub fn of(cr: &Destination) -> Option<Self> {
        Some(Self {
            namespace: cr.metadata.namespace.as_deref()?.into(),
            name: cr.metadata.name.as_deref()?.into(),
        })
    }
}

/// A Destination CR without what nobody asks for here, which is most of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cr {
    #[serde(flatten)]
    pub name: CrName,
    pub spec: DestinationSpec,
    /// The annotation that lists tenants.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenants: Option<String>,
    /// Why the specification is not understood: nothing is known of who may connect, so it is not
    /// served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
}

impl Cr {
    /// `None` for an object that no API server has made.
    pub fn of(cr: Destination) -> Option<Self> {
        let annotations = cr.metadata.annotations.as_ref();
        Some(Self {
            name: CrName::of(&cr)?,
            tenants: annotations
                .and_then(|all| all.get(labels::TENANT_SUBDOMAINS))
                .cloned(),
            spec: essence(cr.spec),
            broken: None,
        })
    }

    /// One that is not understood, and why.
    pub fn broken(name: CrName, why: String) -> Self {
        Self {
            name,
            spec: DestinationSpec::default(),
            tenants: None,
            broken: Some(why),
        }
    }

    /// The destination that it names; a gateway names any.
    pub fn destination(&self) -> &str {
        &self.spec.destination_ref.name
    }

    /// As an object of the API, for those who check it.
    pub fn resource(&self) -> Destination {
        let mut cr = Destination::new(&self.name.name, self.spec.clone());
        cr.metadata.namespace = Some(self.name.namespace.to_string());
        cr.metadata.annotations = self
            .tenants
            .clone()
            .map(|tenants| [(labels::TENANT_SUBDOMAINS.to_owned(), tenants)].into());
        cr
    }

    pub fn scope(&self, default: Scope) -> Scope {
        let own = self.spec.access_control.as_ref();
        own.and_then(|control| control.scope).unwrap_or(default)
    }
}

/// Of chains and actions it matters only that there are some.
fn essence(mut spec: DestinationSpec) -> DestinationSpec {
    if let Some(chain) = &mut spec.chain_ref {
        chain.variables = None;
    }
    if let Some(actions) = &mut spec.actions {
        actions.truncate(1);
        for action in actions {
            action.triggers = None;
        }
    }
    spec
}

impl fmt::Display for CrName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What is spoken at an entrance: the Service's `appProtocol`, since a CR whose destination is
/// gone has nothing else that tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Speaks {
    Http,
    Tcp,
}

/// A generated Service: how connections find their destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entrance {
    pub service: Arc<str>,
    pub cr: CrName,
    /// The virtual IPs.
    pub addresses: Box<[IpAddr]>,
    pub port: u16,
    /// Where agents listen.
    pub target_port: u16,
    pub speaks: Speaks,
    /// In seconds since 1970.
    pub created: i64,
}

/// Why a Service with our labels is no entrance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoEntrance {
    #[error("it has no name, or not the labels that name a Destination CR")]
    Unnamed,
    #[error("it must have one port of protocol TCP with a number as target port")]
    Ports,
    #[error("it has no cluster IP yet")]
    NoAddress,
}

impl Entrance {
    pub fn of(service: &Service) -> Result<Self, NoEntrance> {
        let label = |name: &str| {
            service
                .metadata
                .labels
                .as_ref()?
                .get(name)
                .map(|value| Arc::from(value.as_str()))
        };
        let (Some(name), Some(namespace), Some(cr)) = (
            service.metadata.name.as_deref(),
            label(labels::DESTINATION_NAMESPACE),
            label(labels::DESTINATION_NAME),
        ) else {
            return Err(NoEntrance::Unnamed);
        };
        let spec = service.spec.as_ref().ok_or(NoEntrance::Ports)?;
        let [port] = spec.ports.as_deref().unwrap_or_default() else {
            return Err(NoEntrance::Ports);
        };
        let (number, target) = numbers(port).ok_or(NoEntrance::Ports)?;
        let all = spec.cluster_ips.as_deref().unwrap_or_default();
        // Old API servers know the first one only; `None` is what headless Services have.
        let addresses: Box<[IpAddr]> = all
            .iter()
            .chain(spec.cluster_ip.iter().filter(|_| all.is_empty()))
            .filter_map(|address| address.parse().ok())
            .collect();
        if addresses.is_empty() {
            return Err(NoEntrance::NoAddress);
        }
        let created = service.metadata.creation_timestamp.as_ref();
        Ok(Self {
            service: name.into(),
            cr: CrName { namespace, name: cr },
            addresses,
            port: number,
            target_port: target,
            speaks: speaks(port),
            created: created.map_or(0, |created| created.0.as_second()),
        })
    }
}

fn numbers(port: &ServicePort) -> Option<(u16, u16)> {
    if port.protocol.as_deref().unwrap_or("TCP") != "TCP" {
        return None;
    }
    let Some(IntOrString::Int(target)) = port.target_port else {
        return None;
    };
    let number = |port: i32| u16::try_from(port).ok().filter(|port| *port > 0);
    Some((number(port.port)?, number(target)?))
}

fn speaks(port: &ServicePort) -> Speaks {
    if port.app_protocol.as_deref().or(port.name.as_deref()) == Some("tcp") {
        Speaks::Tcp
    } else {
        Speaks::Http
    }
}

/// A destination that is to be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub entrance: Arc<Entrance>,
    pub cr: Arc<Cr>,
    pub audience: Audience,
}

/// What a CR says about connections that are open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It has been deleted.
    Gone,
    /// It is there, but says nothing that is understood.
    NotUnderstood,
    For(Audience),
}

/// The Services and CRs that are known.
#[derive(Debug)]
pub struct Directory {
    default_scope: Scope,
    entrances: Listed<Arc<str>, Arc<Entrance>>,
    crs: Listed<CrName, Arc<Cr>>,
    of_cr: HashMap<CrName, BTreeSet<Arc<str>>>,
}

/// Names of the Services whose entries may be different now.
pub type Changed = SmallVec<[Arc<str>; 1]>;

impl Directory {
    pub fn new(default_scope: Scope) -> Self {
        Self {
            default_scope,
            entrances: Listed::default(),
            crs: Listed::default(),
            of_cr: HashMap::new(),
        }
    }

    /// What the Service leads to, if it is to be served.
    pub fn entry(&self, service: &str) -> Option<Entry> {
        let entrance = self.entrances.known.get(service)?;
        let cr = self.crs.known.get(&entrance.cr)?;
        Some(Entry {
            entrance: Arc::clone(entrance),
            cr: Arc::clone(cr),
            audience: self.audience(cr)?,
        })
    }

    /// Who may stay connected to what has been served of a CR, with or without a Service.
    pub fn standing(&self, cr: &CrName) -> Standing {
        match self.crs.known.get(cr) {
            None => Standing::Gone,
            Some(cr) => self.audience(cr).map_or(Standing::NotUnderstood, Standing::For),
        }
    }

    fn audience(&self, cr: &Cr) -> Option<Audience> {
        if cr.broken.is_some() {
            return None;
        }
        Some(match cr.scope(self.default_scope) {
            Scope::ClusterWide => Audience::Cluster,
            Scope::Namespaced => Audience::Namespace(Arc::clone(&cr.name.namespace)),
        })
    }

    pub fn cr(&self, name: &CrName) -> Option<&Arc<Cr>> {
        self.crs.known.get(name)
    }

    pub fn entrances_of(&self, cr: &CrName) -> Vec<Arc<Entrance>> {
        let services = self.of_cr.get(cr).into_iter().flatten();
        services
            .filter_map(|service| self.entrances.known.get(service).cloned())
            .collect()
    }

    pub fn entrances(&self) -> impl Iterator<Item = &Arc<Entrance>> {
        self.entrances.known.values()
    }

    pub fn crs(&self) -> impl Iterator<Item = &Arc<Cr>> {
        self.crs.known.values()
    }

    /// A Service is new or different.
    pub fn apply_entrance(&mut self, entrance: Entrance) -> Changed {
        let (service, cr) = (Arc::clone(&entrance.service), entrance.cr.clone());
        let Some(before) = self.entrances.apply(Arc::clone(&service), Arc::new(entrance)) else {
            return Changed::new();
        };
        if let Some(before) = before.filter(|before| before.cr != cr) {
            self.forget(&before);
        }
        self.of_cr.entry(cr).or_default().insert(Arc::clone(&service));
        Changed::from_iter([service])
    }

    pub fn remove_entrance(&mut self, service: &str) -> Changed {
        let Some(entrance) = self.entrances.remove(service) else {
            return Changed::new();
        };
        self.forget(&entrance);
        Changed::from_iter([Arc::clone(&entrance.service)])
    }

    /// A CR is new or different.
    pub fn apply_cr(&mut self, cr: Cr) -> Changed {
        let name = cr.name.clone();
        match self.crs.apply(name.clone(), Arc::new(cr)) {
            Some(_) => self.services_of(&name),
            None => Changed::new(),
        }
    }

    pub fn remove_cr(&mut self, name: &CrName) -> Changed {
        match self.crs.remove(name) {
            Some(_) => self.services_of(name),
            None => Changed::new(),
        }
    }

    /// Adds what is not known yet, from a memory that may be old: lists decide what stays.
    pub fn restore(&mut self, entrances: Vec<Entrance>, crs: Vec<Cr>) -> Changed {
        for cr in crs {
            self.crs.restore(cr.name.clone(), Arc::new(cr));
        }
        let mut changed = Changed::new();
        for entrance in entrances {
            let (service, cr) = (Arc::clone(&entrance.service), entrance.cr.clone());
            if self.entrances.restore(Arc::clone(&service), Arc::new(entrance)) {
                self.of_cr.entry(cr).or_default().insert(service);
            }
        }
        changed.extend(self.entrances.known.keys().cloned());
        changed
    }

    /// A complete list of Services begins; what is known stays until it ends.
    pub fn begin_entrances(&mut self) {
        self.entrances.begin_list();
    }

    /// What the list has not mentioned is gone.
    pub fn end_entrances(&mut self) -> Changed {
        let gone = self.entrances.end_list();
        gone.iter()
            .flat_map(|service| self.remove_entrance(service))
            .collect()
    }

    pub fn begin_crs(&mut self) {
        self.crs.begin_list();
    }

    pub fn end_crs(&mut self) -> Changed {
        let gone = self.crs.end_list();
        gone.iter().flat_map(|name| self.remove_cr(name)).collect()
    }

    fn services_of(&self, cr: &CrName) -> Changed {
        self.of_cr.get(cr).into_iter().flatten().cloned().collect()
    }

    fn forget(&mut self, entrance: &Entrance) {
        if let MapEntry::Occupied(mut services) = self.of_cr.entry(entrance.cr.clone()) {
            services.get_mut().remove(&entrance.service);
            if services.get().is_empty() {
                services.remove();
            }
        }
    }
}

/// Objects as lists and watches tell of them.
#[derive(Debug)]
struct Listed<K, V> {
    known: HashMap<K, V>,
    /// What a list that is under way has not mentioned yet.
    unconfirmed: Option<HashSet<K>>,
    /// There was a complete list once.
    complete: bool,
}

impl<K, V> Default for Listed<K, V> {
    fn default() -> Self {
        Self {
            known: HashMap::new(),
            unconfirmed: None,
            complete: false,
        }
    }
}

impl<K: Clone + Eq + Hash, V: PartialEq> Listed<K, V> {
    /// What was known before, or `None` if nothing changes.
    #[expect(
        clippy::option_option,
        reason = "something new is something else than no change"
    )]
    fn apply(&mut self, key: K, value: V) -> Option<Option<V>> {
        if let Some(unconfirmed) = &mut self.unconfirmed {
            unconfirmed.remove(&key);
        }
        if self.known.get(&key) == Some(&value) {
            return None;
        }
        Some(self.known.insert(key, value))
    }

    /// Whether it was not known. It has to be confirmed by the first list: after that there is
    /// nothing that could take it away again.
    fn restore(&mut self, key: K, value: V) -> bool {
        if self.complete || self.known.contains_key(&key) {
            return false;
        }
        if let Some(unconfirmed) = &mut self.unconfirmed {
            unconfirmed.insert(key.clone());
        }
        self.known.insert(key, value);
        true
    }

    fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.known.remove(key)
    }

    fn begin_list(&mut self) {
        self.unconfirmed = Some(self.known.keys().cloned().collect());
    }

    fn end_list(&mut self) -> HashSet<K> {
        self.complete = true;
        self.unconfirmed.take().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
