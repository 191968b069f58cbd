//! The role `manager` against a real API server, as processes, and what it leaves in the cluster.

mod cleanup;
mod conditions;
mod definition;
mod disturbances;
mod idle;
mod leadership;
mod memory;
mod namespaces;
mod rights;
mod secrets;
mod services;

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Secret, Service};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::time::Instant;
use transparent_proxy::api::condition::Reason;
use transparent_proxy::api::destination::{Condition, Destination, definition};
use transparent_proxy::api::labels;

use crate::harness::api_server::ApiServer;
use crate::harness::role::{Role, Running};

/// For machines under load, and still much less than the three minutes after which the manager looks at everything
/// again: what comes in time comes because of a watch.
const DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(30);

/// Polls until there is something; panics with what was waited for when there is not in time.
async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, look: impl FnMut() -> F) -> T {
    within(DEADLINE, what, look).await
}

async fn within<T, F: Future<Output = Option<T>>>(
    deadline: Duration,
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let begin = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(begin.elapsed() < deadline, "in vain waited until {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// An installation namespace on an API server, and what users do there.
///
/// It manages namespaces with its label only, so that it shares the server with others.
struct Installation<'a> {
    client: Client,
    namespace: String,
    kubeconfig: PathBuf,
    server: &'a ApiServer,
}

impl Installation<'static> {
    async fn new(prefix: &str) -> Self {
        Self::on(ApiServer::shared().await, prefix).await
    }
}

impl<'a> Installation<'a> {
    async fn on(server: &'a ApiServer, prefix: &str) -> Self {
        server.define(&definition()).await;
        Self {
            client: server.client().await,
            namespace: server.namespace(&format!("{prefix}-tp")).await,
            kubeconfig: server.kubeconfig(),
            server,
        }
    }

    /// A namespace of applications that this installation manages.
    async fn managed(&self, prefix: &str) -> String {
        let label = [(labels::NAMESPACE, self.namespace.as_str())];
        self.server.labelled_namespace(prefix, &label).await
    }

    async fn label(&self, namespace: &str, value: Option<&str>) {
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(self.client.clone());
        let patch = Patch::Merge(json!({"metadata": {"labels": {(labels::NAMESPACE): value}}}));
        let patched = namespaces.patch(namespace, &PatchParams::default(), &patch).await;
        patched.expect("the label is set");
    }

    fn manager(&self, name: &str) -> Role {
        self.manager_with(name, &json!({}))
    }

    fn manager_with(&self, name: &str, settings: &Value) -> Role {
        let mut all = json!({
            "managedNamespacesMode": "labelSelector",
            "clusterDomain": "cluster.local",
            "metrics": {"enabled": true},
            "logging": {"level": "trace"},
        });
        for (key, value) in settings.as_object().expect("settings are an object") {
            all[key] = value.clone();
        }
        Role::new("manager", &format!("controller-{name}"), &all)
            .option("--namespace", &self.namespace)
            .env("KUBECONFIG", &self.kubeconfig)
    }

    /// A destination: a labelled Secret with these properties.
    async fn destination(&self, name: &str, properties: Value) {
        let secret = json!({
            "metadata": {"name": name, "labels": {(labels::DESTINATION): ""}},
            "stringData": properties,
        });
        self.apply_secret(&self.namespace, name, secret).await;
    }

    /// One of HTTP in another namespace, with more metadata.
    async fn destination_in(&self, namespace: &str, name: &str, metadata: Value) {
        let mut secret = json!({
            "metadata": metadata,
            "stringData": {"Type": "HTTP", "URL": "https://backend.example"},
        });
        secret["metadata"]["name"] = name.into();
        secret["metadata"]["labels"] = json!({(labels::DESTINATION): ""});
        self.apply_secret(namespace, name, secret).await;
    }

    async fn apply_secret(&self, namespace: &str, name: &str, secret: Value) {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let params = PatchParams::apply("tests").force();
        let mut secret = secret;
        secret["apiVersion"] = "v1".into();
        secret["kind"] = "Secret".into();
        let applied = secrets.patch(name, &params, &Patch::Apply(&secret)).await;
        applied.expect("the Secret is applied");
    }

    async fn http(&self, name: &str) {
        let properties = json!({
            "Type": "HTTP",
            "URL": "https://backend.example",
            "Authentication": "BasicAuthentication",
            "User": "me",
            "Password": "s3cr3t-of-the-backend",
        });
        self.destination(name, properties).await;
    }

    async fn remove_destination(&self, name: &str) {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        secrets.delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// A CR; where the specification is only a text, it names the destination.
    async fn cr(&self, namespace: &str, name: &str, spec: impl Into<Value>) -> Destination {
        let mut spec = spec.into();
        if let Value::String(destination) = spec {
            spec = json!({"destinationRef": {"name": destination}});
        }
        let cr = json!({
            "apiVersion": "destination.connectivity.api.sap/v1",
            "kind": "Destination",
            "metadata": {"name": name},
            "spec": spec,
        });
        let cr: Destination = serde_json::from_value(cr).unwrap();
        let created = self.crs(namespace).create(&PostParams::default(), &cr).await;
        created.expect("the CR is accepted")
    }

    async fn change(&self, namespace: &str, name: &str, spec: Value) {
        let patch = Patch::Merge(json!({"spec": spec}));
        let changed = self
            .crs(namespace)
            .patch(name, &PatchParams::default(), &patch)
            .await;
        changed.expect("the CR is changed");
    }

    async fn remove(&self, namespace: &str, name: &str) {
        let crs = self.crs(namespace);
        crs.delete(name, &DeleteParams::default())
            .await
            .expect("it is there");
    }

    fn crs(&self, namespace: &str) -> Api<Destination> {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn services(&self, namespace: &str) -> Api<Service> {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn condition(&self, namespace: &str, name: &str) -> Option<Condition> {
        let cr = self.crs(namespace).get_opt(name).await.unwrap()?;
        let mut conditions = cr.status?.conditions?;
        assert_eq!(conditions.len(), 1, "there is one condition");
        conditions.pop()
    }

    /// Waits until the condition has this reason.
    async fn becomes(&self, namespace: &str, name: &str, reason: Reason) -> Condition {
        let what = format!("{namespace}/{name} is {}", reason.as_str());
        eventually(&what, || async {
            let condition = self.condition(namespace, name).await?;
            (condition.reason.as_deref() == Some(reason.as_str())).then_some(condition)
        })
        .await
    }

    async fn works(&self, namespace: &str, name: &str) {
        self.becomes(namespace, name, Reason::ConfigurationSuccessful)
            .await;
    }

    async fn service(&self, namespace: &str, name: &str) -> Option<Service> {
        self.services(namespace).get_opt(name).await.unwrap()
    }

    /// The Service with the virtual IP, when it is there.
    async fn virtual_ip(&self, name: &str) -> Service {
        let what = format!("the Service {name} is there");
        eventually(&what, || self.service(&self.namespace, name)).await
    }

    async fn is_gone(&self, namespace: &str, name: &str) {
        let what = format!("the Service {namespace}/{name} is gone");
        eventually(&what, || async {
            self.service(namespace, name).await.is_none().then_some(())
        })
        .await;
    }

    async fn delete_service(&self, namespace: &str, name: &str) {
        let services = self.services(namespace);
        services
            .delete(name, &DeleteParams::default())
            .await
            .expect("it is there");
    }

    /// A Service of somebody else.
    async fn foreign_service(&self, namespace: &str, name: &str) -> Service {
        let service = json!({
            "metadata": {"name": name},
            "spec": {"selector": {"app": "theirs"}, "ports": [{"port": 80, "protocol": "TCP"}]},
        });
        let service = serde_json::from_value(service).unwrap();
        let services = self.services(namespace);
        services.create(&PostParams::default(), &service).await.unwrap()
    }

    /// Everything that was made by this installation, in all namespaces.
    async fn made(&self) -> Vec<String> {
        let everywhere: Api<Service> = Api::all(self.client.clone());
        let selector = format!("{}={}", labels::INSTALLATION, self.namespace);
        let made = everywhere.list(&ListParams::default().labels(&selector)).await;
        let key = |service: Service| format!("{}/{}", service.namespace().unwrap(), service.name_any());
        made.unwrap().items.into_iter().map(key).collect()
    }

    async fn nothing_is_left(&self) {
        eventually("nothing of this installation is left", || async {
            self.made().await.is_empty().then_some(())
        })
        .await;
    }
}

fn port(service: &Service) -> (i32, Option<i32>, String) {
    let ports = service.spec.as_ref().unwrap().ports.as_ref().unwrap();
    assert_eq!(ports.len(), 1, "there is one port");
    let target = match &ports[0].target_port {
        Some(k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(port)) => Some(*port),
        _ => None,
    };
    (ports[0].port, target, ports[0].name.clone().unwrap())
}

fn target_port(service: &Service) -> i32 {
    port(service).1.expect("it has a number")
}

fn cluster_ips(service: &Service) -> Vec<String> {
    service.spec.clone().unwrap().cluster_ips.unwrap_or_default()
}

/// The value of a metric of a role that runs.
fn metric(running: &Running, line: &str) -> f64 {
    let answer = crate::harness::tcp::get(running.metrics(), "/metrics");
    let value = answer.lines().find_map(|found| found.strip_prefix(line));
    let value = value.unwrap_or_else(|| panic!("no {line} in {answer}"));
    value.trim().parse().expect("a number")
}

fn is_ready(running: &Running) -> bool {
    crate::harness::tcp::get(running.probes(), "/readyz").starts_with("HTTP/1.1 200 ")
}

fn leads(running: &Running) -> bool {
    metric(running, "tp_manager_leader ") > 0.0
}
