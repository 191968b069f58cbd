//! A cluster in memory, in which plans are carried out.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::*;
use super::{NAME, beside, shop, warehouse};
use crate::api::condition::Reason;
use crate::resolve::check::Kind;

pub(super) const INSTALLATION: &str = "tp";
pub(super) const TARGET_PORT: u16 = 12_345;

#[derive(Debug, Clone)]
pub(super) struct Cluster {
    pub(super) crs: BTreeMap<Key, CustomResource>,
    pub(super) services: BTreeMap<Key, Value>,
    pub(super) checked: Result<Configured, NotConfigured>,
    pub(super) has_ports: bool,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            crs: BTreeMap::new(),
            services: BTreeMap::new(),
            checked: Ok(Configured {
                kind: Kind::Http,
                default_port: 80,
            }),
            has_ports: true,
        }
    }
}

impl Decisions for Cluster {
    fn check(&self, _: &CustomResource) -> Result<Configured, NotConfigured> {
        self.checked.clone()
    }

    fn target_port(&self, _: &Key) -> Option<u16> {
        self.has_ports.then_some(TARGET_PORT)
    }
}

impl AsRef<CustomResource> for CustomResource {
    fn as_ref(&self) -> &CustomResource {
        self
    }
}

impl AsRef<Seen> for Seen {
    fn as_ref(&self) -> &Seen {
        self
    }
}

impl Cluster {
    /// Its uid follows from its age.
    pub(super) fn cr(&mut self, key: &Key, created: u32) {
        let wire = json!({
            "metadata": {
                "namespace": &*key.namespace,
                "name": &*key.name,
                "uid": format!("uid-{created}"),
                "creationTimestamp": format!("2026-01-01T00:00:{created:02}Z"),
            },
            "spec": {"destinationRef": {"name": "d"}},
        });
        let cr = CustomResource::read(serde_json::from_value(wire).unwrap());
        self.crs.insert(key.clone(), cr);
    }

    pub(super) fn foreign(&mut self, key: &Key) {
        let service = json!({"metadata": {"name": &*key.name}, "spec": {"type": "ClusterIP"}});
        self.services.insert(key.clone(), service);
    }

    pub(super) fn plan(&self) -> Plan {
        let inputs = Inputs {
            crs: self.crs.clone(),
            services: self
                .services
                .iter()
                .map(|(key, service)| (key.clone(), see(service)))
                .collect(),
        };
        plan(&installation(), &inputs, self)
    }

    /// Plans and does until nothing is left; that takes one round.
    pub(super) fn settle(&mut self) {
        let plan = self.plan();
        self.carry_out(plan);
        assert_eq!(
            self.plan(),
            Plan {
                served: self.plan().served,
                ..Plan::default()
            }
        );
    }

    fn carry_out(&mut self, plan: Plan) {
        for deletion in plan.delete {
            let gone = self.services.remove(&deletion.key).expect("it is there");
            assert!(see(&gone).ours().is_some(), "{gone} is not ours");
        }
        for wanted in plan.make {
            let before = self
                .services
                .insert(wanted.key.clone(), wanted.body(&installation()));
            assert_eq!(before, None, "it exists already");
        }
        for (wanted, seen) in plan.change {
            let service = self.services.get_mut(&wanted.key).expect("it is there");
            merge(service, wanted.change(&seen, &installation()));
        }
        for saying in plan.say {
            let cr = self.crs.get_mut(&saying.cr).expect("it is there");
            let condition = json!({
                "type": "Available",
                "status": if saying.verdict.status { "True" } else { "False" },
                "reason": saying.verdict.reason.as_str(),
                "message": saying.verdict.message,
            });
            cr.destination.status = serde_json::from_value(json!({"conditions": [condition]})).unwrap();
        }
    }

    pub(super) fn service(&self, key: &Key) -> &Value {
        &self.services[key]
    }

    pub(super) fn service_mut(&mut self, key: &Key) -> &mut Value {
        self.services.get_mut(key).unwrap()
    }

    pub(super) fn made_for(&self, key: &Key) -> Key {
        see(&self.services[key]).ours().unwrap().cr.clone()
    }

    /// What the Service remembers.
    pub(super) fn remembered_port(&self, key: &Key) -> Option<u16> {
        see(&self.services[key]).ours().unwrap().target_port()
    }

    pub(super) fn foreign_services(&self) -> BTreeMap<Key, Value> {
        let foreign = self
            .services
            .iter()
            .filter(|(_, service)| see(service) == Seen::Foreign);
        foreign
            .map(|(key, service)| (key.clone(), service.clone()))
            .collect()
    }

    pub(super) fn reason(&self, key: &Key) -> Option<Reason> {
        let text = self.condition(key)?.reason?;
        Reason::ALL.into_iter().find(|reason| reason.as_str() == text)
    }

    pub(super) fn message(&self, key: &Key) -> String {
        self.condition(key).unwrap().message.unwrap()
    }

    fn condition(&self, key: &Key) -> Option<crate::api::destination::Condition> {
        let status = self.crs[key].destination.status.clone()?;
        status.conditions?.first().cloned()
    }

    /// The CRs and the Services of others of another cluster, but what was made here.
    pub(super) fn become_like(&mut self, other: &Self) {
        let foreign = self.foreign_services();
        self.services.retain(|key, _| !foreign.contains_key(key));
        self.services.extend(other.foreign_services());
        self.crs.clone_from(&other.crs);
        self.checked = other.checked.clone();
        self.has_ports = other.has_ports;
    }

    /// What users see of it: which CRs work, and why others do not.
    pub(super) fn summary(&self) -> Vec<(Key, Option<Reason>)> {
        let crs = self.crs.iter().filter(|(_, cr)| !cr.is_deleted);
        crs.map(|(key, _)| (key.clone(), self.reason(key))).collect()
    }
}

fn installation() -> Installation {
    Installation {
        namespace: INSTALLATION.to_owned(),
        domain: "cluster.local".to_owned(),
    }
}

fn see(service: &Value) -> Seen {
    Seen::read(serde_json::from_value(service.clone()).unwrap(), &installation())
}

/// RFC 7396.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let fields = target.as_object_mut().unwrap();
    for (name, value) in patch {
        if value.is_null() {
            fields.remove(&name);
        } else {
            merge(fields.entry(name).or_insert(Value::Null), value);
        }
    }
}

/// Some CRs of one name, some Services, ours and those of others, in any state.
pub(super) fn any() -> impl Strategy<Value = Cluster> {
    let places = [shop(), warehouse(), beside()];
    let crs = prop::collection::vec((0..3usize, 1..6u32, prop::bool::weighted(0.1)), 0..4);
    let services = prop::collection::vec((0..3usize, 0..4usize), 0..4);
    let checked = prop_oneof![
        4 => (prop::bool::ANY, 1..4u16).prop_map(|(http, port)| Ok(Configured {
            kind: if http { Kind::Http } else { Kind::Tcp },
            default_port: port,
        })),
        1 => Just(Err(NotConfigured::Refused(Verdict::destination_not_found("d", "secrets")))),
        1 => Just(Err(NotConfigured::NotLoaded)),
    ];
    (crs, services, checked, prop::bool::weighted(0.9)).prop_map(
        move |(crs, services, checked, has_ports)| {
            let mut cluster = Cluster {
                checked,
                has_ports,
                ..Cluster::default()
            };
            for (place, created, is_deleted) in crs {
                cluster.cr(&places[place], created);
                cluster.crs.get_mut(&places[place]).unwrap().is_deleted = is_deleted;
            }
            for (place, made_for) in services {
                match places.get(made_for) {
                    None => cluster.foreign(&places[place]),
                    Some(cr) => cluster.services.extend([(places[place].clone(), ours(cr))]),
                }
            }
            cluster
        },
    )
}

fn ours(cr: &Key) -> Value {
    json!({
        "metadata": {
            "labels": {
                "app.kubernetes.io/managed-by": "transparent-proxy",
                "transparent-proxy.connectivity.api.sap/installation": INSTALLATION,
                "transparent-proxy.connectivity.api.sap/destination-namespace": &*cr.namespace,
                "transparent-proxy.connectivity.api.sap/destination-name": NAME,
            },
        },
        "spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1", "ports": [{"name": "tcp", "port": 5}]},
    })
}
