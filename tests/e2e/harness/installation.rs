//! The proxy, as Helm installs it.

use std::net::IpAddr;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::cluster::{Cluster, repository};
use super::destination::Destination;
use super::wait::{eventually, until};

const CHART: &str = "charts/transparent-proxy";
const TIMEOUT: &str = "3m";
/// A pod that is well restarts or starts within this time.
const READY_WITHIN: Duration = Duration::from_mins(1);

pub struct Installation<'a> {
    pub cluster: &'a Cluster,
    /// Also the name of the release.
    pub namespace: String,
}

/// A pod of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyPod {
    pub name: String,
    pub uid: String,
    pub node: String,
    pub address: IpAddr,
    pub restarts: u64,
    pub ready: bool,
}

impl<'a> Installation<'a> {
    pub fn of(cluster: &'a Cluster, namespace: &str) -> Self {
        Self {
            cluster,
            namespace: namespace.to_owned(),
        }
    }

    /// Waits until everything is ready. Values are like `config.logging.level=debug`.
    pub fn install(&self, values: &[&str]) {
        self.cluster.apply(&[json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {
                "name": self.namespace,
                // As the documentation says: agents mount a folder of their node.
                "labels": { "pod-security.kubernetes.io/enforce": "privileged" },
            },
        })]);
        self.helm("install", values);
    }

    pub fn upgrade(&self, values: &[&str]) {
        self.helm("upgrade", values);
    }

    fn helm(&self, verb: &str, values: &[&str]) {
        let chart = repository().join(CHART).display().to_string();
        let mut arguments = vec![
            verb,
            &self.namespace,
            &chart,
            "--namespace",
            &self.namespace,
            "--wait",
            "--timeout",
            TIMEOUT,
        ];
        let image = image_values();
        for value in values.iter().copied().chain([image.as_str()]) {
            arguments.extend(["--set", value]);
        }
        self.cluster.helm(&arguments);
        self.wait_for_daemon_set();
    }

    /// To the version before.
    pub fn rollback(&self) {
        self.cluster.helm(&[
            "rollback",
            &self.namespace,
            "--namespace",
            &self.namespace,
            "--wait",
            "--timeout",
            TIMEOUT,
        ]);
        self.wait_for_daemon_set();
    }

    pub fn uninstall(&self) {
        self.cluster.helm(&[
            "uninstall",
            &self.namespace,
            "--namespace",
            &self.namespace,
            "--wait",
            "--timeout",
            TIMEOUT,
        ]);
    }

    /// Helm's `--wait` is content with a `DaemonSet` of which one pod may be unavailable.
    fn wait_for_daemon_set(&self) {
        let sets = self.cluster.get(&["daemonsets", "--namespace", &self.namespace]);
        for set in sets["items"].as_array().into_iter().flatten() {
            let name = set["metadata"]["name"].as_str().expect("a name");
            self.kubectl(&["rollout", "status", "daemonset", name, "--timeout", TIMEOUT]);
        }
    }

    /// In the namespace of the installation.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.cluster
            .kubectl(&[arguments, &["--namespace", &self.namespace]].concat())
    }

    /// Of a component: `manager`, `healthcheck`, `http-proxy`.
    pub fn pods(&self, component: &str) -> Vec<ProxyPod> {
        let label = format!("transparent-proxy.connectivity.api.sap/component={component}");
        let pods = self
            .cluster
            .get(&["pods", "--namespace", &self.namespace, "--selector", &label]);
        let pods = pods["items"].as_array().into_iter().flatten();
        pods.filter_map(ProxyPod::of).collect()
    }

    /// The agent of a node.
    pub fn agent(&self, node: &str) -> ProxyPod {
        self.agents()
            .into_iter()
            .find(|pod| pod.node == node)
            .unwrap_or_else(|| panic!("{node} has no agent"))
    }

    pub fn agents(&self) -> Vec<ProxyPod> {
        self.pods("http-proxy")
            .into_iter()
            .filter(|pod| !pod.name.contains("-fallback-"))
            .collect()
    }

    pub fn fallback(&self) -> Vec<ProxyPod> {
        self.pods("http-proxy")
            .into_iter()
            .filter(|pod| pod.name.contains("-fallback-"))
            .collect()
    }

    /// The machine's numbers of a pod's processes; there is one at least.
    pub fn processes(&self, pod: &ProxyPod) -> Vec<Pid> {
        let node = self.cluster.node(&pod.node);
        let processes = node.processes(&pod.uid, "transparent-proxy");
        assert!(!processes.is_empty(), "{pod:?} has no process");
        processes
    }

    /// SIGKILL, as the kernel does when memory runs out.
    pub fn kill(&self, pod: &ProxyPod) {
        for process in self.processes(pod) {
            kill(process, Signal::SIGKILL).expect("it was there");
        }
    }

    pub fn wait_until_agents_are_ready(&self) {
        until(READY_WITHIN, "both agents are ready", || {
            let agents = self.agents();
            agents.len() == 2 && agents.iter().all(|agent| agent.ready)
        });
    }

    /// Secret and resource.
    pub fn offer(&self, destination: &Destination, namespace: &str) {
        self.cluster.apply(&[
            destination.secret(&self.namespace),
            destination.resource(namespace),
        ]);
        self.wait_until_available(destination, namespace);
    }

    pub fn wait_until_available(&self, destination: &Destination, namespace: &str) {
        let name = destination.name();
        eventually(READY_WITHIN, &format!("{namespace}/{name} is available"), || {
            let condition = self.condition(name, namespace);
            if condition["status"] == "True" {
                Ok(())
            } else {
                Err(condition.to_string())
            }
        });
    }

    /// The condition `Available`.
    pub fn condition(&self, name: &str, namespace: &str) -> Value {
        let object = self.cluster.get(&["destination", name, "--namespace", namespace]);
        object["status"]["conditions"][0].clone()
    }

    /// What a pod of ours answers at a port, asked from a node.
    pub fn ask(&self, pod: &ProxyPod, port: u16, path: &str) -> String {
        let url = format!("http://{}:{port}{path}", pod.address);
        self.cluster
            .node("node1")
            .run(&["curl", "--silent", "--show-error", "--max-time", "10", &url])
    }
}

/// The image is made for this machine.
fn image_values() -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("deployment.image.architectures={{{architecture}}}")
}

impl ProxyPod {
    /// Nothing for one that has no address yet, or is about to go.
    fn of(pod: &Value) -> Option<Self> {
        if !pod["metadata"]["deletionTimestamp"].is_null() {
            return None;
        }
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let container = &pod["status"]["containerStatuses"][0];
        Some(Self {
            name: text(&pod["metadata"]["name"])?,
            uid: text(&pod["metadata"]["uid"])?,
            node: text(&pod["spec"]["nodeName"])?,
            address: text(&pod["status"]["podIP"])?.parse().ok()?,
            restarts: container["restartCount"].as_u64()?,
            ready: container["ready"] == true,
        })
    }
}
