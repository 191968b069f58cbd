//! Pods of applications: unchanged programs that know nothing of the proxy.

use std::net::IpAddr;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::cluster::{Cluster, text_of};
use super::pressure::Pressure;
use super::wait::eventually;

const IMAGE: &str = "localhost/client:1";
const READY_WITHIN: Duration = Duration::from_mins(1);

pub struct Pod<'a> {
    cluster: &'a Cluster,
    pub namespace: String,
    pub name: String,
    way: Way,
}

/// How programs are started in it.
enum Way {
    /// `kubectl exec`
    ApiServer,
    /// By the container runtime, when there is no API server.
    Runtime { node: String, container: String },
}

/// What curl says of an answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// 0 if there was none.
    pub status: u16,
    pub body: String,
    /// Of curl; 7 is a refused connection, 28 a timeout.
    pub exit_code: i32,
    /// Since the name was looked up.
    pub elapsed: Duration,
}

/// A connection that is open.
#[must_use = "it is closed when this is dropped"]
pub struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        // Its input ends, and with it the connection.
        drop(self.0.stdin.take());
        self.0.wait().ok();
    }
}

impl<'a> Pod<'a> {
    /// One that runs already.
    pub fn named(cluster: &'a Cluster, namespace: &str, name: &str) -> Self {
        Self {
            cluster,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            way: Way::ApiServer,
        }
    }

    /// The same pod, for times without an API server.
    pub fn by_its_runtime(&self) -> Self {
        let object = self.object();
        let text = |value: &Value| value.as_str().expect("the pod runs").to_owned();
        let container = text(&object["status"]["containerStatuses"][0]["containerID"]);
        Self {
            way: Way::Runtime {
                node: text(&object["spec"]["nodeName"]),
                container: container.trim_start_matches("containerd://").to_owned(),
            },
            ..Self::named(self.cluster, &self.namespace, &self.name)
        }
    }

    /// Starts it on a node, and waits until it runs.
    pub fn start(cluster: &'a Cluster, namespace: &str, name: &str, node: &str) -> Self {
        Self::start_with(cluster, namespace, name, node, json!({}))
    }

    /// In the network of its node.
    pub fn start_on_host_network(cluster: &'a Cluster, namespace: &str, name: &str, node: &str) -> Self {
        let spec = json!({ "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet" });
        Self::start_with(cluster, namespace, name, node, spec)
    }

    fn start_with(cluster: &'a Cluster, namespace: &str, name: &str, node: &str, mut spec: Value) -> Self {
        spec["nodeName"] = node.into();
        spec["terminationGracePeriodSeconds"] = 0.into();
        spec["containers"] = json!([{ "name": "client", "image": IMAGE }]);
        cluster.apply(&[json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": namespace },
            "spec": spec,
        })]);
        let pod = Self::named(cluster, namespace, name);
        eventually(READY_WITHIN, &format!("the pod {name} runs"), || {
            let container = pod.object()["status"]["containerStatuses"][0].clone();
            if container["ready"] == true {
                Ok(())
            } else {
                Err(container.to_string())
            }
        });
        pod
    }

    pub fn object(&self) -> Value {
        self.cluster
            .get(&["pod", &self.name, "--namespace", &self.namespace])
    }

    pub fn address(&self) -> IpAddr {
        let object = self.object();
        let text = object["status"]["podIP"].as_str().expect("it has an address");
        text.parse().expect("an address")
    }

    fn exec_command(&self, command: &[&str]) -> Command {
        match &self.way {
            Way::ApiServer => {
                let exec = ["kubectl", "exec", "--stdin", "--namespace", &self.namespace];
                self.cluster
                    .command("node1", &[&exec[..], &[&self.name, "--"], command].concat())
            }
            Way::Runtime { node, container } => {
                static NUMBER: AtomicUsize = AtomicUsize::new(1);
                let id = format!("e2e-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
                let exec = ["ctr", "--namespace", "k8s.io", "tasks", "exec", "--exec-id", &id];
                self.cluster
                    .command(node, &[&exec[..], &[container], command].concat())
            }
        }
    }

    pub fn try_exec(&self, command: &[&str]) -> Output {
        self.exec_command(command).output().expect("the script starts")
    }

    /// What a command in the pod prints; it must succeed.
    pub fn exec(&self, command: &[&str]) -> String {
        text_of(
            &format!("{} in {}", command.join(" "), self.name),
            &self.try_exec(command),
        )
    }

    /// Asks once, and waits for an answer for at most ten seconds.
    pub fn curl(&self, url: &str) -> Answer {
        self.curl_with(&[], url)
    }

    pub fn curl_with(&self, options: &[&str], url: &str) -> Answer {
        let form = "\n%{http_code} %{time_namelookup} %{time_total}";
        let fixed = ["curl", "--silent", "--max-time", "10", "--write-out", form];
        let output = self.try_exec(&[&fixed, options, &[url]].concat());
        let text = String::from_utf8_lossy(&output.stdout);
        let (body, numbers) = text
            .rsplit_once('\n')
            .unwrap_or_else(|| panic!("curl: {output:?}"));
        let numbers: Vec<&str> = numbers.split(' ').collect();
        let [status, found, end] = numbers[..] else {
            panic!("curl: {output:?}")
        };
        let seconds = |text: &str| Duration::from_secs_f64(text.parse().expect("seconds"));
        Answer {
            status: status.parse().expect("a status"),
            body: body.to_owned(),
            exit_code: output.status.code().unwrap_or(-1),
            elapsed: seconds(end).saturating_sub(seconds(found)),
        }
    }

    /// What comes back for a line over TCP, with busybox's nc; nothing if the connection is refused or reset.
    pub fn echo(&self, host: &str, port: u16) -> String {
        let script = format!("echo hello | timeout 10 nc {host} {port}");
        let output = self.try_exec(&["sh", "-c", &script]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Opens a connection and keeps it until the value is dropped.
    pub fn holds(&self, host: &str, port: u16) -> Held {
        let mut command = self.exec_command(&["nc", host, &port.to_string()]);
        Held(command.stdin(Stdio::piped()).spawn().expect("the script starts"))
    }

    /// With java.net.http, in both versions of HTTP.
    pub fn java(&self, url: &str) -> String {
        self.exec(&["java", "-Xshare:auto", "-cp", "/usr/share/client", "Client", url])
    }

    /// Steady requests; see `tests/clients/pressure.go`.
    pub fn pressure(&self, arguments: &[&str]) -> Pressure {
        Pressure::start(self.exec_command(&[&["pressure"], arguments].concat()))
    }

    pub fn delete(self) {
        self.cluster.kubectl(&[
            "delete",
            "pod",
            &self.name,
            "--namespace",
            &self.namespace,
            "--now",
            "--wait=false",
        ]);
    }
}
