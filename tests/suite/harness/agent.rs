//! A node of a cluster with its agent: a real API server outside, network namespaces and
//! cgroups in place of containers.
//!
//! Pods are objects of the API server with the addresses and UIDs of what stands for them here.
//! The hook's virtual IPs are those that the API server gives to Services; no namespace has a
//! route to them.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use k8s_openapi::api::core::v1::{Pod as ApiPod, Secret, Service};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use rustls::ServerConnection;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;
use transparent_proxy::api::destination::{Destination, definition};

use super::account::Account;
use super::api_server::{ApiServer, Disturbance};
use super::certs::Identity;
use super::node::{self, Cgroup, Namespace as NetworkNamespace, Pod};
use super::{binary, tcp, wait};

/// Last parts of addresses on a node: of its agent, and of pods.
const AGENT: u8 = 1;
pub const SHOP: u8 = 2;
pub const BANK: u8 = 3;
pub const STRANGER: u8 = 4;
/// Where servers outside are.
pub const UPSTREAM: &str = "10.245.0.2";

/// What a server of TLS shows to those who connect from now on, and what it says to them.
pub type Shown = Arc<Mutex<(Identity, &'static str)>>;

/// What an installation has in the API server, and a node of it.
pub struct Node {
    pub client: Client,
    /// The way from the node to the API server.
    pub way: Disturbance,
    more_ways: Mutex<Vec<Disturbance>>,
    /// The installation namespace, and two of users.
    pub installation: String,
    pub shop: String,
    pub bank: String,
    /// Of this node.
    pub name: String,
    pub agent: Pod,
    pods: NetworkNamespace,
    upstream: Pod,
    // Those below go first.
    pod_cgroups: Mutex<Vec<Cgroup>>,
    kubepods: Cgroup,
    /// Where the node's cgroup tree is mounted, as it were.
    pub tree: Cgroup,
    next_port: Mutex<u16>,
    /// The other tests with the same API server have nodes as well.
    number: u8,
}

impl Node {
    pub async fn new(server: &ApiServer) -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let address = |last: u8| format!("10.244.{number}.{last}/24");
        server.define(&definition()).await;
        let installation = server.namespace("tp").await;
        let (shop, bank) = (server.namespace("shop").await, server.namespace("bank").await);
        let tree = Cgroup::new();
        let kubepods = tree.child("kubepods");
        let agent = Pod::new(NetworkNamespace::new(), kubepods.child("podagent"));
        let (pods, upstream) = (
            NetworkNamespace::new(),
            Pod::new(NetworkNamespace::new(), Cgroup::new()),
        );
        agent.namespace.cable("pods", &pods, "node");
        agent.namespace.cable("upstream", &upstream.namespace, "node");
        agent.namespace.address("pods", &address(AGENT));
        agent.namespace.address("upstream", "10.245.0.1/24");
        for pod in [SHOP, BANK, STRANGER] {
            pods.address("node", &address(pod));
        }
        upstream.namespace.address("node", &format!("{UPSTREAM}/24"));
        let listener = agent.run(|| TcpListener::bind("127.0.0.1:0").expect("a port"));
        Self {
            client: server.client().await,
            way: server.disturbed_at(listener).await,
            more_ways: Mutex::default(),
            name: format!("node-{installation}"),
            installation,
            shop,
            bank,
            agent,
            pods,
            upstream,
            pod_cgroups: Mutex::default(),
            kubepods,
            tree,
            next_port: Mutex::new(10_000),
            number,
        }
    }

    /// Of the agent or a pod of this node.
    pub fn address(&self, last: u8) -> IpAddr {
        Ipv4Addr::new(10, 244, self.number, last).into()
    }

    pub fn agent_address(&self) -> IpAddr {
        self.address(AGENT)
    }

    pub fn in_installation<K>(&self) -> Api<K>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.installation)
    }

    /// A pod object on this node with its cgroup, in which code runs by [`Pod::run`].
    pub async fn pod(&self, namespace: &str, name: &str, last: u8) -> Pod {
        let uid = self.pod_object(namespace, name, last).await;
        self.in_pods(&format!("pod{uid}"))
    }

    /// The cgroup of all pods, where the hook belongs.
    pub fn kubepods(&self) -> &Path {
        self.kubepods.path()
    }

    /// Removes it, and makes it anew under the same name.
    pub fn make_kubepods_again(&self) {
        let agent = self.agent.cgroup.path();
        std::fs::remove_dir(agent).expect("nobody is in it");
        std::fs::remove_dir(self.kubepods()).expect("nobody is in it");
        for path in [self.kubepods(), agent] {
            std::fs::create_dir(path).expect("it was removed");
            std::fs::write(path.join("cgroup.type"), "threaded").expect("every cgroup may be threaded");
        }
    }

    /// The agent's own pod, as far as it tells about it.
    pub async fn agent_pod(&self, metadata: Value) {
        let pods: Api<ApiPod> = self.in_installation();
        let mut pod = json!({
            "metadata": metadata,
            "spec": {"nodeName": self.name, "containers": [{"name": "proxy", "image": "proxy"}]},
        });
        pod["metadata"]["name"] = json!("agent-1");
        pods.create(&PostParams::default(), &object(pod))
            .await
            .expect("the pod is created");
    }

    pub async fn annotate_agent_pod(&self, name: &str, value: &str) {
        let pods: Api<ApiPod> = self.in_installation();
        let patch = Patch::Merge(json!({"metadata": {"annotations": {name: value}}}));
        pods.patch("agent-1", &PatchParams::default(), &patch)
            .await
            .expect("the pod is there");
    }

    /// The answer to a GET from the loopback address of the agent's pod; nothing after a reset.
    pub fn ask_from_loopback(&self, port: u16) -> String {
        let stream = self
            .agent
            .run(|| TcpStream::connect(("127.0.0.1", port)))
            .expect("the agent listens");
        exchange(stream, "")
    }

    /// The same in the network of the node, whose address others have as well.
    pub async fn host_pod(&self, namespace: &str, name: &str, last: u8) -> Pod {
        let spec = json!({"nodeName": self.name, "hostNetwork": true});
        let uid = self.pod_with(spec, namespace, name, last).await;
        self.in_pods(&format!("pod{uid}"))
    }

    /// Something below the cgroup of all pods that is no pod.
    pub fn process(&self) -> Pod {
        self.in_pods("process")
    }

    fn in_pods(&self, name: &str) -> Pod {
        let cgroup = self.kubepods.child(name);
        let container = cgroup.child("container");
        self.pod_cgroups.lock().unwrap().push(cgroup);
        Pod::new(self.pods.clone(), container)
    }

    /// The object alone; gives its UID.
    pub async fn pod_object(&self, namespace: &str, name: &str, last: u8) -> String {
        self.pod_on(&self.name, namespace, name, last).await
    }

    /// On another node.
    pub async fn pod_elsewhere(&self, namespace: &str, name: &str, last: u8) {
        self.pod_on("elsewhere", namespace, name, last).await;
    }

    /// All its containers have ended.
    pub async fn end_pod(&self, namespace: &str, name: &str) {
        self.pod_status(namespace, name, json!({"phase": "Succeeded"}))
            .await;
    }

    async fn pod_on(&self, node: &str, namespace: &str, name: &str, last: u8) -> String {
        self.pod_with(json!({"nodeName": node}), namespace, name, last)
            .await
    }

    async fn pod_with(&self, mut spec: Value, namespace: &str, name: &str, last: u8) -> String {
        spec["containers"] = json!([{"name": "app", "image": "app"}]);
        let address = self.address(last);
        let pods: Api<ApiPod> = Api::namespaced(self.client.clone(), namespace);
        let pod = object(json!({
            "metadata": {"name": name},
            "spec": spec,
        }));
        let pod = pods
            .create(&PostParams::default(), &pod)
            .await
            .expect("the pod is created");
        let status = json!({"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]});
        self.pod_status(namespace, name, status).await;
        pod.metadata.uid.expect("the API server gives one")
    }

    async fn pod_status(&self, namespace: &str, name: &str, status: Value) {
        let pods: Api<ApiPod> = Api::namespaced(self.client.clone(), namespace);
        let patch = Patch::Merge(json!({"status": status}));
        pods.patch_status(name, &PatchParams::default(), &patch)
            .await
            .expect("the pod has a status");
    }

    /// A destination, as a Secret.
    pub async fn secret(&self, name: &str, properties: Value) {
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "labels": {"transparent-proxy.connectivity.api.sap/destination": ""}},
            "stringData": properties,
        });
        self.apply::<Secret>(&self.installation, name, &secret).await;
    }

    pub async fn no_secret(&self, name: &str) {
        let secrets: Api<Secret> = self.in_installation();
        secrets
            .delete(name, &DeleteParams::default())
            .await
            .expect("the Secret is deleted");
    }

    /// A CR of the namespace `shop` and the Service that the manager makes of it.
    pub async fn destination(&self, name: &str, spec: Value, protocol: &str) -> Entrance {
        self.cr(name, spec).await;
        let port = {
            let mut next = self.next_port.lock().unwrap();
            *next += 1;
            *next
        };
        let service = self.service(name, protocol, port.into());
        let service: Service = self.apply(&self.installation, name, &service).await;
        let address = service
            .spec
            .and_then(|spec| spec.cluster_ip)
            .expect("a virtual IP");
        Entrance {
            virtual_address: SocketAddr::new(address.parse().expect("an address"), 80),
            port,
        }
    }

    /// The same with a virtual IP that was another one's.
    pub async fn destination_at(&self, name: &str, spec: Value, address: IpAddr) {
        self.cr(name, spec).await;
        let port = {
            let mut next = self.next_port.lock().unwrap();
            *next += 1;
            *next
        };
        let mut service = self.service(name, "http", port.into());
        service["spec"]["clusterIP"] = json!(address);
        self.apply::<Service>(&self.installation, name, &service).await;
    }

    pub async fn no_service(&self, name: &str) {
        let services: Api<Service> = self.in_installation();
        services
            .delete(name, &DeleteParams::default())
            .await
            .expect("the Service is deleted");
    }

    /// As the manager makes it for a CR of the namespace `shop`.
    pub fn service(&self, name: &str, protocol: &str, target_port: usize) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "labels": {
                "app.kubernetes.io/managed-by": "transparent-proxy",
                "transparent-proxy.connectivity.api.sap/installation": self.installation,
                "transparent-proxy.connectivity.api.sap/destination-namespace": self.shop,
                "transparent-proxy.connectivity.api.sap/destination-name": name,
            }},
            "spec": {
                "ipFamilyPolicy": "PreferDualStack",
                "selector": {"transparent-proxy.connectivity.api.sap/fallback": "true"},
                "ports": [{
                    "name": protocol, "appProtocol": protocol, "protocol": "TCP",
                    "port": 80, "targetPort": target_port,
                }],
            },
        })
    }

    pub async fn service_port(&self, name: &str, port: u16) {
        let services: Api<Service> = self.in_installation();
        let patch = Patch::Json::<()>(object(json!([
            {"op": "replace", "path": "/spec/ports/0/port", "value": port},
        ])));
        services
            .patch(name, &PatchParams::default(), &patch)
            .await
            .expect("the port is changed");
    }

    pub async fn cr(&self, name: &str, spec: Value) {
        let cr = json!({
            "apiVersion": "destination.connectivity.api.sap/v1",
            "kind": "Destination",
            "metadata": {"name": name},
            "spec": spec,
        });
        self.apply::<Destination>(&self.shop, name, &cr).await;
    }

    pub async fn no_cr(&self, name: &str) {
        let crs: Api<Destination> = Api::namespaced(self.client.clone(), &self.shop);
        crs.delete(name, &DeleteParams::default())
            .await
            .expect("the CR is deleted");
    }

    async fn apply<K>(&self, namespace: &str, name: &str, object: &Value) -> K
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned
            + Serialize,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        api.patch(name, &PatchParams::apply("tests").force(), &Patch::Apply(object))
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// An HTTP server outside that answers with this word; gives the URL.
    pub fn web(&self, word: &'static str) -> String {
        let address = self.serve(move |mut connection| {
            while let Some(head) = tcp::read_head(&mut connection) {
                let login = if head.contains("uthorization: Basic") {
                    " logged in"
                } else {
                    ""
                };
                let length = word.len() + login.len();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{word}{login}");
                if connection.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
        });
        format!("http://{address}")
    }

    /// An HTTPS server outside; each connection keeps to what was shown when it began, and counts
    /// its requests. Gives the URL.
    pub fn tls_web(&self, shown: &Shown) -> String {
        let shown = Arc::clone(shown);
        let address = self.serve(move |mut tcp| {
            let (tls, word) = {
                let shown = shown.lock().unwrap();
                (shown.0.tls(), shown.1)
            };
            let mut session = ServerConnection::new(tls).expect("a session");
            let mut connection = rustls::Stream::new(&mut session, &mut tcp);
            for number in 1.. {
                if tcp::read_head(&mut connection).is_none() {
                    return;
                }
                let said = format!("{word} {number}");
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{said}", said.len());
                if connection.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
        });
        format!("https://{address}")
    }

    /// A token service outside with this certificate that takes every client; gives its URL.
    pub fn token_service(&self, identity: impl FnOnce(&str) -> Identity) -> String {
        let tls = identity(UPSTREAM).tls();
        let address = self.serve(move |mut tcp| {
            let mut session = ServerConnection::new(Arc::clone(&tls)).expect("a session");
            let mut connection = rustls::Stream::new(&mut session, &mut tcp);
            let Some(head) = tcp::read_head(&mut connection) else {
                return;
            };
            let length = head.to_ascii_lowercase();
            let length = length.split("content-length: ").nth(1).expect("a form");
            let length = length.lines().next().expect("a line").parse().expect("a number");
            connection.read_exact(&mut vec![0; length]).expect("the form");
            let token = r#"{"access_token": "t", "token_type": "Bearer", "expires_in": 3600}"#;
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{token}",
                token.len()
            );
            connection.write_all(answer.as_bytes()).ok();
            connection.conn.send_close_notify();
            connection.flush().ok();
        });
        format!("https://{address}/token")
    }

    /// A TCP server outside that says everything again; gives its address.
    pub fn echo(&self) -> String {
        let address = self.serve(|mut connection| {
            let mut said = [0; 1024];
            while let Ok(length @ 1..) = connection.read(&mut said) {
                if connection.write_all(&said[..length]).is_err() {
                    return;
                }
            }
        });
        address.to_string()
    }

    fn serve(&self, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
        let listener = self
            .upstream
            .run(|| TcpListener::bind((UPSTREAM, 0)).expect("a port"));
        let address = listener.local_addr().expect("its address");
        let serve = Arc::new(serve);
        thread::spawn(move || {
            for connection in listener.incoming() {
                let (connection, serve) = (connection.expect("a connection"), Arc::clone(&serve));
                thread::spawn(move || serve(connection));
            }
        });
        address
    }

    /// A stream from one of the addresses of pods to a port of the agent: how it comes by kube-proxy.
    pub fn connect(&self, from: u8, port: u16) -> TcpStream {
        self.try_connect(from, port).expect("the agent listens")
    }

    pub fn try_connect(&self, from: u8, port: u16) -> std::io::Result<TcpStream> {
        let (from, to) = (self.address(from), self.agent_address());
        let connect = move || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket
                .bind(&SocketAddr::new(from, 0).into())
                .expect("an own address");
            socket.connect(&SocketAddr::new(to, port).into())?;
            Ok::<TcpStream, std::io::Error>(socket.into())
        };
        let stream = thread::scope(|scope| {
            node::join(scope.spawn(|| {
                self.pods.enter();
                connect()
            }))
        });
        let stream = stream?;
        stream.set_read_timeout(Some(tcp::PATIENCE))?;
        Ok(stream)
    }

    /// The same where perhaps nobody listens.
    pub fn try_ask(&self, from: u8, port: u16) -> Option<String> {
        self.try_connect(from, port)
            .ok()
            .map(|stream| exchange(stream, ""))
    }

    /// The answer to a GET from one of the addresses of pods; nothing after a reset.
    pub fn ask(&self, from: u8, port: u16, fields: &str) -> String {
        exchange(self.connect(from, port), fields)
    }

    /// An agent in a pod of its own beside the first one, as in an update.
    pub async fn second_agent(&self, server: &ApiServer, name: &str) -> AgentProcess {
        let place = Pod::new(NetworkNamespace::new(), self.kubepods.child("podsecond"));
        let address = format!("10.246.{}", self.number);
        place.namespace.cable("pods", &self.pods, "second");
        place.namespace.address("pods", &format!("{address}.1/24"));
        self.pods.address("second", &format!("{address}.2/24"));
        place
            .namespace
            .cable("upstream", &self.upstream.namespace, "second");
        place.namespace.address("upstream", "10.245.1.1/24");
        self.upstream.namespace.address("second", "10.245.1.2/24");
        place
            .namespace
            .ip(&format!("route add {UPSTREAM} via 10.245.1.2"));
        let listener = place.run(|| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let way = server.disturbed_at(listener).await;
        let mut second = self.agent(name);
        let first = self.agent_address().to_string();
        for argument in &mut second.arguments {
            *argument = argument
                .replace(&first, &format!("{address}.1"))
                .replace("agent-1", "agent-2");
        }
        second.place = place;
        second.kubeconfig = way.kubeconfig();
        self.more_ways.lock().unwrap().push(way);
        second
    }

    /// Settings and command line for an agent of this node.
    pub fn agent(&self, name: &str) -> AgentProcess {
        AgentProcess::new(self, name)
    }
}

/// One GET on a connection of its own.
pub fn exchange(mut stream: TcpStream, fields: &str) -> String {
    let request = format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n");
    // A refusal may be faster.
    let _ = stream.write_all(request.as_bytes());
    String::from_utf8_lossy(&tcp::read_to_end(&mut stream)).into_owned()
}

fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("it is one")
}

/// Where a destination is entered.
#[derive(Debug, Clone, Copy)]
pub struct Entrance {
    pub virtual_address: SocketAddr,
    /// The target port.
    pub port: u16,
}

/// An agent that is about to start.
pub struct AgentProcess {
    place: Pod,
    folder: Arc<TempDir>,
    settings: Value,
    arguments: Vec<String>,
    kubeconfig: PathBuf,
    log: PathBuf,
}

impl AgentProcess {
    fn new(node: &Node, name: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let log = binary::log_folder().join(format!("{name}.log"));
        let ip = node.agent_address().to_string();
        let arguments = [
            ("--namespace", node.installation.as_str()),
            ("--pod", "agent-1"),
            ("--node", &node.name),
            ("--ips", &ip),
            ("--probes", "127.0.0.1:8081"),
            ("--metrics", "127.0.0.1:9494"),
            ("--tcp-metrics", "127.0.0.1:9495"),
        ];
        Self {
            place: node.agent.clone(),
            settings: json!({
                "metrics": {"enabled": true},
                "logging": {"level": "debug"},
                "drainSeconds": 10,
                "ebpf": {"cgroupRoot": node.tree.path()},
            }),
            arguments: arguments
                .iter()
                .flat_map(|(name, value)| [(*name).to_owned(), (*value).to_owned()])
                .collect(),
            folder: Arc::new(folder),
            kubeconfig: node.way.kubeconfig(),
            log,
        }
    }

    pub fn fallback(mut self) -> Self {
        self.arguments.push("--fallback".to_owned());
        self
    }

    /// In a cgroup that the hook is not for, as where pods have one of their own outside of it.
    pub fn outside(mut self, node: &Node) -> Self {
        self.place = Pod::new(self.place.namespace.clone(), node.tree.child("outside"));
        self
    }

    /// In front of the API server.
    pub fn with_account(mut self, account: &Account) -> Self {
        self.kubeconfig = account.instead_of(&self.kubeconfig);
        self
    }

    pub fn setting(mut self, name: &str, value: Value) -> Self {
        self.settings[name] = value;
        self
    }

    /// With what another one has written down.
    pub fn after(mut self, other: &Running) -> Self {
        self.folder = Arc::clone(&other.folder);
        self
    }

    /// Starts it and waits until it is ready.
    pub fn start(self) -> Running {
        let running = self.spawn();
        wait::until("the agent is ready", || running.ready());
        running
    }

    pub fn spawn(self) -> Running {
        let folder = self.folder.path();
        std::fs::write(folder.join("config.json"), self.settings.to_string()).expect("settings");
        let mut command = binary::command();
        command
            .arg("agent")
            .args(&self.arguments)
            .arg("--config")
            .arg(folder.join("config.json"))
            .arg("--logging")
            .arg(folder)
            .arg("--state")
            .arg(folder)
            .arg("--run")
            .arg(folder)
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::null());
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .expect("a log");
        let log_start = log.metadata().expect("it is there").len();
        command.stdout(log.try_clone().expect("the log")).stderr(log);
        Running {
            child: self.place.run(|| spawn(&mut command)),
            probes: probes(&self.arguments),
            place: self.place,
            folder: self.folder,
            log: self.log,
            log_start,
        }
    }
}

fn spawn(command: &mut Command) -> Child {
    command.spawn().expect("transparent-proxy starts")
}

fn probes(arguments: &[String]) -> SocketAddr {
    let at = arguments.iter().position(|argument| argument == "--probes");
    arguments[at.expect("it is given") + 1]
        .parse()
        .expect("an address")
}

/// An agent that runs; it ends with the test.
pub struct Running {
    child: Child,
    place: Pod,
    folder: Arc<TempDir>,
    probes: SocketAddr,
    log: PathBuf,
    log_start: u64,
}

impl Running {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn ready(&self) -> bool {
        self.page(self.probes.port(), "/readyz")
            .is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    pub fn readiness(&self) -> String {
        self.page(self.probes.port(), "/readyz").unwrap_or_default()
    }

    /// The page at `/status`.
    pub fn status(&self) -> Value {
        let answer = self
            .page(self.probes.port(), "/status")
            .expect("the probes answer");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
        serde_json::from_str(body).expect("JSON")
    }

    /// The value of a sample, by its name with labels.
    pub fn metric(&self, port: u16, sample: &str) -> Option<f64> {
        let text = self.page(port, "/metrics").expect("metrics");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.map(|value| value.parse().expect("a number"))
    }

    pub fn page(&self, port: u16, path: &str) -> Option<String> {
        self.place.run(|| {
            let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
            let mut stream = stream;
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).ok()?;
            Some(String::from_utf8_lossy(&tcp::read_to_end(&mut stream)).into_owned())
        })
    }

    /// What the agent reports about a Destination CR to the command.
    pub fn explain(&self, cr: &str) -> Value {
        self.say(&["explain", cr])["report"].clone()
    }

    /// What the command lists as open.
    pub fn connections(&self) -> Vec<Value> {
        let listed = self.say(&["connections"]);
        listed.as_array().expect("a list").clone()
    }

    fn say(&self, words: &[&str]) -> Value {
        let output = binary::command()
            .args(words)
            .args(["--format", "json", "--run"])
            .arg(self.folder.path())
            .output()
            .expect("transparent-proxy starts");
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// The lines of the log since the start.
    pub fn log(&self) -> Vec<Value> {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let own = &text[usize::try_from(self.log_start).expect("it fits")..];
        String::from_utf8_lossy(own)
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Waits for a line of the log.
    pub fn line(&self, what: &str, is_meant: impl Fn(&Value) -> bool) -> Value {
        let mut found = None;
        wait::until(what, || {
            found = self.log().into_iter().find(&is_meant);
            found.is_some()
        });
        found.expect("it was waited for")
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }

    /// SIGTERM, without waiting for what follows.
    pub fn ask_to_stop(&self) {
        wait::ask_to_stop(&self.child);
    }

    pub fn ended(&mut self) -> ExitStatus {
        wait::exit(&mut self.child)
    }

    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended() {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}
