//! A real API server with its etcd, on loopback, and nothing else of Kubernetes.
//!
//! It validates, admits, converts, applies and watches as every API server does. Without the
//! controllers nobody makes endpoints or pods, collects garbage, or ends a namespace's deletion.
//!
//! Tests that only read and write share one ([`ApiServer::shared`]), in namespaces of their own
//! ([`ApiServer::namespace`]). Those that freeze, kill or restart it start one for themselves.
//! [`ApiServer::disturbed`] gives a way in where answers can be replaced and streams be cut.

mod disturbance;
mod keeper;
mod kubeconfig;

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::conditions::is_crd_established;
use kube::runtime::wait::await_condition;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcgen::KeyPair;
use socket2::{Domain, Socket, Type};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::certs::Authority;
use super::peers;
pub use disturbance::{Disturbance, Instead, Seen};
use keeper::Keeper;
use kubeconfig::Kubeconfig;

/// It takes 3 to 4 seconds; this is for machines under load.
const READY_WITHIN: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Of both families, as on dual-stack clusters.
const SERVICE_ADDRESSES: &str = "10.96.0.0/16,fd00:96::/112";

pub struct ApiServer {
    keeper: Keeper,
    etcd: Mutex<Child>,
    server: Mutex<Child>,
    ports: Ports,
    kubeconfig: Kubeconfig,
}

/// Held as long as the server lives, so that it has the same ones after a restart.
struct Ports {
    server: Reserved,
    etcd: Reserved,
    etcd_peers: Reserved,
}

impl ApiServer {
    /// The one that all tests share which leave it alone.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<ApiServer> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    /// One of one's own, ready.
    pub async fn start() -> Self {
        let keeper = Keeper::new();
        let ports = Ports {
            server: Reserved::new(),
            etcd: Reserved::new(),
            etcd_peers: Reserved::new(),
        };
        let kubeconfig = write_credentials(keeper.folder(), ports.server.address);
        let etcd = Mutex::new(start_etcd(&keeper, &ports));
        let server = Mutex::new(start_server(&keeper, &ports));
        let started = Self {
            keeper,
            etcd,
            server,
            ports,
            kubeconfig,
        };
        started.ready().await;
        started
    }

    /// For `KUBECONFIG`: somebody who may do everything.
    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig.path()
    }

    /// As the same, on the runtime of the caller.
    pub async fn client(&self) -> kube::Client {
        self.kubeconfig.client().await
    }

    /// A namespace nobody else has, with a name that begins like this.
    pub async fn namespace(&self, prefix: &str) -> String {
        self.labelled_namespace(prefix, &[]).await
    }

    pub async fn labelled_namespace(&self, prefix: &str, labels: &[(&str, &str)]) -> String {
        static NUMBER: AtomicUsize = AtomicUsize::new(1);
        let name = format!("{prefix}-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let labels = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let namespace = Namespace {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(labels.collect()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        let namespaces = Api::all(self.client().await);
        namespaces
            .create(&PostParams::default(), &namespace)
            .await
            .expect("the namespace is created");
        name
    }

    /// Applies a definition and waits until objects of it can be made.
    pub async fn define(&self, definition: &CustomResourceDefinition) {
        let name = definition.metadata.name.as_deref().expect("it has a name");
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client().await);
        definitions
            .patch(
                name,
                &PatchParams::apply("tests").force(),
                &Patch::Apply(definition),
            )
            .await
            .expect("the definition is accepted");
        let established = await_condition(definitions, name, is_crd_established());
        tokio::time::timeout(READY_WITHIN, established)
            .await
            .expect("the definition is established in time")
            .expect("it can be watched");
    }

    /// Connections stay open and new ones are accepted, but nothing is answered any more.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Goes on after [`Self::freeze`].
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Every connection is reset, new ones are refused. etcd keeps what it has.
    pub fn kill(&self) {
        let mut server = self.server.lock().unwrap();
        server.kill().expect("it is our child");
        server.wait().expect("it is our child");
    }

    /// After [`Self::kill`]: at the same address, with the same objects. Its memory of
    /// past versions is gone, so watches from those end with 410.
    pub async fn restart(&self) {
        *self.server.lock().unwrap() = start_server(&self.keeper, &self.ports);
        self.ready().await;
    }

    /// A way in that can be disturbed.
    pub async fn disturbed(&self) -> Disturbance {
        Disturbance::in_front_of(&self.kubeconfig).await
    }

    /// The same for clients in another network namespace: there this listener is.
    pub async fn disturbed_at(&self, listener: std::net::TcpListener) -> Disturbance {
        Disturbance::at(listener, &self.kubeconfig).await
    }

    fn signal(&self, signal: Signal) {
        let id = self.server.lock().unwrap().id();
        let pid = Pid::from_raw(i32::try_from(id).expect("a pid fits"));
        kill(pid, signal).expect("the API server is there");
    }

    async fn ready(&self) {
        let client = self.client().await;
        let begin = Instant::now();
        loop {
            let request = http::Request::get("/readyz").body(Vec::new()).expect("a request");
            if client.request_text(request).await.is_ok_and(|text| text == "ok") {
                return;
            }
            self.complain_if_ended();
            assert!(
                begin.elapsed() < READY_WITHIN,
                "the API server is not ready in time:\n{}",
                self.log("kube-apiserver")
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn complain_if_ended(&self) {
        for (name, child) in [("etcd", &self.etcd), ("kube-apiserver", &self.server)] {
            let ended = child.lock().unwrap().try_wait().expect("it is our child");
            assert!(ended.is_none(), "{name} ended:\n{}", self.log(name));
        }
    }

    /// The end of what a program said.
    fn log(&self, name: &str) -> String {
        let text = fs::read_to_string(log_file(self.keeper.folder(), name)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for ApiServer {
    /// Not by SIGTERM: an API server that has lost its etcd takes a minute for a polite end.
    fn drop(&mut self) {
        for child in [&self.server, &self.etcd] {
            let mut child = child.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// A port that nobody else gets: it stays bound here, and the servers share it.
struct Reserved {
    address: SocketAddr,
    _socket: Socket,
}

impl Reserved {
    fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_reuse_port(true).expect("the port can be shared");
        socket
            .bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
            .expect("a free port");
        let address = socket.local_addr().expect("an address");
        Self {
            address: address.as_socket().expect("an address with a port"),
            _socket: socket,
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Certificates, keys and the one user.
fn write_credentials(folder: &Path, address: SocketAddr) -> Kubeconfig {
    let authority = Authority::new();
    authority
        .server(&["localhost", "127.0.0.1", "kubernetes.default.svc"])
        .write(folder, "server");
    let key = KeyPair::generate().expect("a key is generated");
    write(folder, "accounts.key", &key.serialize_pem());
    write(folder, "accounts.pub", &key.public_key_pem());
    write(folder, "ca.crt", &authority.certificate_pem);
    let random = fs::read_to_string("/proc/sys/kernel/random/uuid").expect("the kernel gives random numbers");
    let token = format!("s3cr3t-{}", random.trim());
    write(
        folder,
        "tokens.csv",
        &format!("{token},admin,admin,system:masters\n"),
    );
    Kubeconfig::write(
        folder.join("kubeconfig"),
        format!("https://{address}"),
        Some(folder.join("ca.crt")),
        token,
    )
}

fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).expect("the file is written");
}

fn start_etcd(keeper: &Keeper, ports: &Ports) -> Child {
    let mut etcd = command(keeper, "etcd");
    etcd.arg("--data-dir")
        .arg(keeper.folder().join("etcd"))
        .args(["--unsafe-no-fsync", "--socket-reuse-port", "--log-level=warn"])
        .args(["--listen-client-urls", &ports.etcd.url()])
        .args(["--advertise-client-urls", &ports.etcd.url()])
        .args(["--listen-peer-urls", &ports.etcd_peers.url()])
        .args(["--initial-advertise-peer-urls", &ports.etcd_peers.url()])
        .args([
            "--initial-cluster",
            &format!("default={}", ports.etcd_peers.url()),
        ]);
    keeper.start(&mut etcd)
}

fn start_server(keeper: &Keeper, ports: &Ports) -> Child {
    let mut server = command(keeper, "kube-apiserver");
    let folder = keeper.folder().display();
    server.args([
        format!("--etcd-servers={}", ports.etcd.url()),
        format!("--secure-port={}", ports.server.address.port()),
        format!("--service-cluster-ip-range={SERVICE_ADDRESSES}"),
        format!("--tls-cert-file={folder}/server.crt"),
        format!("--tls-private-key-file={folder}/server.key"),
        format!("--token-auth-file={folder}/tokens.csv"),
        format!("--service-account-key-file={folder}/accounts.pub"),
        format!("--service-account-signing-key-file={folder}/accounts.key"),
    ]);
    server.args([
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        "--endpoint-reconciler-type=none",
        "--permit-port-sharing",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--authorization-mode=RBAC",
        "--allow-privileged",
        // Nobody makes the accounts that it would demand of pods.
        "--disable-admission-plugins=ServiceAccount",
    ]);
    keeper.start(&mut server)
}

/// Its output goes to a file of the same name.
fn command(keeper: &Keeper, name: &str) -> Command {
    let log = File::options()
        .create(true)
        .append(true)
        .open(log_file(keeper.folder(), name))
        .expect("a log");
    let mut command = Command::new(peers::path(name));
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("the log can be written twice"))
        .stderr(log);
    command
}

fn log_file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.log"))
}
