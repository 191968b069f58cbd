//! Entries over real sockets: callers come from several addresses of 127/8, each of which is a pod.

use std::net::TcpListener as StdListener;
use std::num::NonZero;
use std::pin::Pin;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use super::*;
use crate::accept::{Limits, LimitsConfig};
use crate::api::destination::Scope;
use crate::api::destination::{AccessControl, DestinationRef, DestinationSpec};
use crate::api::labels;
use crate::app::agent::all_pods::AllPods;
use crate::app::agent::callers::{Callers, Trace, Wanted};
use crate::app::agent::feeds::OwnPod;
use crate::app::agent::pod_table::PodTable;
use crate::app::agent::refusals::RefusalLog;
use crate::app::agent::snapshot::Own;
use crate::cluster::watch::Sink as _;
use crate::config::kubernetes::File;
use crate::connect::direct::{self, Direct};
use crate::connect::pool::{self, Pool};
use crate::connect::tls::Authorities;
use crate::connect::{self, Dialer};
use crate::credentials::TokenService;
use crate::flow::Parts;
use crate::flow::http::{HttpMetrics, HttpParts, HttpSettings};
use crate::flow::stream::{TcpMetrics, TcpParts, TcpSettings};
use crate::lifecycle::supervisor::supervisor;
use crate::lifecycle::workers::Workers;
use crate::resolve::destination::SocketOptions;
use crate::resolve::directory::{Cr, CrName, Directory, Speaks};
use crate::resolve::source::secrets::{self, Writer};
use crate::telemetry::connections::Connections;

/// How a server changes the protocol.
const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const PATIENCE: Duration = Duration::from_secs(20);
/// Somebody of the namespace `shop`, of `bank`, and nobody that is known.
const SHOP: &str = "127.1.0.1";
const BANK: &str = "127.1.0.2";
const STRANGER: &str = "127.1.0.3";
const PORT_FORWARD: &str = "127.0.0.1";

/// Finds every host on this machine. Destinations of Secrets cannot name it themselves.
struct Nearby(Direct);

impl Dialer for Nearby {
    fn dial<'a>(
        &'a self,
        _host: &'a str,
        port: u16,
        options: &'a SocketOptions,
        timeout: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<TcpStream, connect::Error>> + Send + 'a>> {
        self.0.dial("127.0.0.1", port, options, timeout)
    }
}

/// An agent without its feeds.
struct Agent {
    entries: Entries,
    directory: Directory,
    secrets: Writer,
    pods: PodTable,
    refusals: RefusalLog,
    http: HttpMetrics,
    drain: Drain,
    own: Arc<OwnPod>,
}

impl Agent {
    fn new() -> Self {
        Self::within(LimitsConfig::default())
    }

    /// With these limits for each plane.
    fn within(limits: LimitsConfig) -> Self {
        let (secrets, destinations) = secrets::store(["tp".to_owned()]);
        let dialer: Arc<dyn Dialer> = Arc::new(Nearby(Direct::new(direct::Config::default())));
        let http = HttpMetrics::default();
        let parts = Parts {
            http: HttpParts {
                tokens: TokenService::new(Arc::clone(&dialer), Authorities::default()),
                dialer: Arc::clone(&dialer),
                pool: Pool::new(pool::Limits::default()),
                settings: Arc::new(HttpSettings::default()),
                metrics: http.clone(),
                behalf: None,
            },
            tcp: TcpParts {
                dialer,
                connections: Connections::default(),
                metrics: TcpMetrics::default(),
                settings: TcpSettings::default(),
                behalf: None,
            },
        };
        let (pods, refusals, drain) = (PodTable::default(), RefusalLog::default(), Drain::new());
        let own = Arc::<OwnPod>::default();
        let entries = Entries::new(
            Common {
                gate: Arc::new(Gate {
                    callers: Arc::new(Callers::new(pods.clone(), AllPods::default(), Arc::clone(&own))),
                    refusals: refusals.clone(),
                    workers: Workers::start(NonZero::<usize>::MIN).unwrap(),
                }),
                planes: Planes {
                    parts,
                    destinations,
                    settings: Arc::new(File::default()),
                },
                limits: Arc::new(PlaneLimits {
                    http: Limits::new(limits.clone()),
                    tcp: Limits::new(limits),
                }),
                drain: drain.child(),
                supervisor: supervisor().0,
                own: Arc::default(),
                numbers: Numbers::default(),
                ips: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            },
            Board::default(),
        );
        let mut agent = Self {
            entries,
            directory: Directory::new(Scope::Namespaced),
            secrets,
            pods,
            refusals,
            http,
            drain,
            own,
        };
        agent.secrets.init("tp");
        agent.secrets.init_done("tp");
        agent.own.restore(&own_pod("agent-1", false), "agent-1");
        agent.pod(1, "shop", SHOP);
        agent.pod(2, "bank", BANK);
        agent
    }

    fn pod(&mut self, number: u8, namespace: &str, address: &str) {
        let pod = json!({
            "metadata": {
                "name": "app",
                "namespace": namespace,
                "uid": format!("00000000-0000-0000-0000-0000000000{number:02}"),
            },
            "status": {"phase": "Running", "podIPs": [{"ip": address}]},
        });
        self.pods.applied(serde_json::from_value(pod).unwrap());
    }

    /// A Secret that is a destination.
    fn secret(&mut self, name: &str, properties: &[(&str, &str)]) {
        self.secrets.apply(secret(name, properties));
        self.entries.refresh(&Change::Names([name.into()].into()));
    }

    fn no_secret(&mut self, name: &str) {
        self.secrets.delete(secret(name, &[]));
        self.entries.refresh(&Change::Names([name.into()].into()));
    }

    /// Serves a CR of the namespace `shop` and gives the port.
    fn cr(&mut self, name: &str, destination: &str, scope: Scope, speaks: Speaks) -> u16 {
        let port = free_port();
        self.service(name, port, speaks, 0);
        self.change_cr(name, destination, scope);
        port
    }

    fn service(&mut self, name: &str, target_port: u16, speaks: Speaks, created: i64) {
        let entrance = Entrance {
            service: name.into(),
            cr: cr_name(name),
            addresses: ["10.96.0.1".parse().unwrap()].into(),
            port: 80,
            target_port,
            speaks,
            created,
        };
        let changed = self.directory.apply_entrance(entrance);
        self.apply(changed);
    }

    /// Until nothing waits for a port any more.
    async fn retried(&mut self) {
        let served = async {
            while self.entries.has_failed() {
                tokio::task::yield_now().await;
                self.entries.retry();
            }
        };
        timeout(PATIENCE, served)
            .await
            .expect("the port is free in a moment");
    }

    fn change_cr(&mut self, name: &str, destination: &str, scope: Scope) {
        let mut resource = crate::api::destination::Destination::new(
            name,
            DestinationSpec {
                destination_ref: DestinationRef {
                    name: destination.to_owned(),
                    level: None,
                },
                access_control: Some(AccessControl { scope: Some(scope) }),
                ..DestinationSpec::default()
            },
        );
        resource.metadata.namespace = Some("shop".to_owned());
        let changed = self.directory.apply_cr(Cr::of(resource).unwrap());
        self.apply(changed);
    }

    fn no_cr(&mut self, name: &str) {
        let changed = self.directory.remove_cr(&cr_name(name));
        self.apply(changed);
    }

    fn apply(&mut self, changed: impl IntoIterator<Item = Arc<str>>) {
        let entries: Vec<_> = changed
            .into_iter()
            .map(|service| (Arc::clone(&service), self.directory.entry(&service)))
            .collect();
        let directory = &self.directory;
        self.entries.update(entries, |cr| directory.standing(cr));
    }

    fn scraped(&self) -> String {
        let mut registry = prometheus_client::registry::Registry::default();
        self.http.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    fn refusals(&self, name: &str) -> Vec<(String, &'static str)> {
        let of = self.refusals.of(&cr_name(name));
        of.into_iter()
            .map(|one| (one.refusal.caller, one.refusal.reason.as_str()))
            .collect()
    }
}

/// What is remembered of the pod that the agent is in.
fn own_pod(pod: &str, meshed: bool) -> Own {
    Own {
        pod: pod.to_owned(),
        meshed,
        endpoint: false,
    }
}

fn cr_name(name: &str) -> CrName {
    CrName {
        namespace: "shop".into(),
        name: name.into(),
    }
}

fn secret(name: &str, properties: &[(&str, &str)]) -> Secret {
    static VERSION: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let version = VERSION.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let data = properties
        .iter()
        .map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())));
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some("tp".to_owned()),
            resource_version: Some(version.to_string()),
            labels: Some([(labels::DESTINATION.to_owned(), String::new())].into()),
            ..ObjectMeta::default()
        },
        data: Some(data.collect()),
        ..Secret::default()
    }
}

/// Target ports are given out by the manager.
fn free_port() -> u16 {
    let listener = StdListener::bind("[::]:0").unwrap();
    listener.local_addr().unwrap().port()
}

async fn connect(from: &str, port: u16) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    socket.connect(([127, 0, 0, 1], port).into()).await.unwrap()
}

/// What is read until the other side closes; `None` after a reset.
async fn rest(stream: &mut TcpStream) -> Option<String> {
    let mut text = String::new();
    let read = timeout(PATIENCE, stream.read_to_string(&mut text))
        .await
        .expect("an end");
    read.is_ok().then_some(text)
}

async fn ask(from: &str, port: u16, fields: &str) -> Option<String> {
    let mut stream = connect(from, port).await;
    let request = format!("GET /x HTTP/1.1\r\nHost: my-dest\r\nConnection: close\r\n{fields}\r\n");
    // A refusal may be faster.
    let _ = stream.write_all(request.as_bytes()).await;
    rest(&mut stream).await
}

/// An HTTP server that says its name.
async fn web(name: &'static str) -> SocketAddr {
    server(move |mut stream| async move {
        let mut head = [0; 1024];
        if stream.read(&mut head).await? == 0 {
            return Ok(());
        }
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
        stream.write_all(answer.as_bytes()).await
    })
    .await
}

async fn echo() -> SocketAddr {
    server(|mut stream| async move {
        let (mut from, mut to) = stream.split();
        tokio::io::copy(&mut from, &mut to).await.map(drop)
    })
    .await
}

async fn server<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

fn http_to(target: SocketAddr) -> [(&'static str, String); 2] {
    [
        ("Type", "HTTP".into()),
        ("URL", format!("http://web.example:{}", target.port())),
    ]
}

fn tcp_to(target: SocketAddr) -> [(&'static str, String); 2] {
    [
        ("Type", "TCP".into()),
        ("Address", format!("db.example:{}", target.port())),
    ]
}

impl Agent {
    fn destination(&mut self, name: &str, properties: &[(&'static str, String)]) {
        let properties: Vec<(&str, &str)> = properties.iter().map(|(k, v)| (*k, v.as_str())).collect();
        self.secret(name, &properties);
    }
}

#[tokio::test]
async fn a_destination_is_for_its_namespace_and_port_forward() {
    let mut agent = Agent::new();
    agent.destination("backend", &http_to(web("backend").await));
    let port = agent.cr("my-dest", "backend", Scope::Namespaced, Speaks::Http);
    for from in [SHOP, PORT_FORWARD] {
        let answer = ask(from, port, "").await.expect("no reset");
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("backend"),
            "{answer}"
        );
    }
    assert_eq!(ask(BANK, port, "").await, None);
    assert_eq!(ask(STRANGER, port, "").await, None);
    assert_eq!(
        agent.refusals("my-dest"),
        [
            ("an unknown address".to_owned(), "unknown_address"),
            ("bank/app".to_owned(), "other_namespace")
        ]
    );
}

#[tokio::test]
async fn what_is_for_the_cluster_is_for_all() {
    let mut agent = Agent::new();
    agent.destination("backend", &http_to(web("backend").await));
    let port = agent.cr("my-dest", "backend", Scope::ClusterWide, Speaks::Http);
    for from in [SHOP, BANK, STRANGER, PORT_FORWARD] {
        let answer = ask(from, port, "").await.expect("no reset");
        assert!(answer.ends_with("backend"), "{answer}");
    }
}

#[tokio::test]
async fn a_pod_that_is_known_in_a_moment_is_waited_for() {
    let mut agent = Agent::new();
    agent.destination("backend", &http_to(web("backend").await));
    let port = agent.cr("my-dest", "backend", Scope::Namespaced, Speaks::Http);
    let asking = tokio::spawn(ask(STRANGER, port, ""));
    let mut stream = connect(SHOP, port).await;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    rest(&mut stream).await.expect("others are not kept waiting");
    agent.pod(3, "shop", STRANGER);
    assert!(asking.await.unwrap().expect("no reset").ends_with("backend"));
}

/// Nobody had to be known when it was accepted, and somebody has to be when it is decided.
#[tokio::test]
async fn who_comes_in_while_the_scope_gets_narrower_is_waited_for() {
    let mut agent = Agent::new();
    agent.cr("my-db", "db", Scope::Namespaced, Speaks::Tcp);
    let way = agent.entries.board().way("my-db").unwrap().unwrap();
    let gate = Arc::clone(&agent.entries.common.gate);
    let trace = Trace::Source(STRANGER.parse().unwrap());
    let asking = tokio::spawn(async move { gate.admit(trace, Wanted::AtHand, &way).await });
    tokio::task::yield_now().await;
    agent.pod(3, "shop", STRANGER);
    let (caller, admitted) = asking.await.unwrap();
    assert!(admitted.is_ok(), "{caller}");
}

#[tokio::test]
async fn a_narrower_scope_ends_what_others_have_open_and_nothing_else() {
    let mut agent = Agent::new();
    agent.destination("db", &tcp_to(echo().await));
    let port = agent.cr("my-db", "db", Scope::ClusterWide, Speaks::Tcp);
    let mut streams = Vec::new();
    for from in [SHOP, BANK, PORT_FORWARD] {
        let mut stream = connect(from, port).await;
        say(&mut stream, "hello").await;
        hear(&mut stream, "hello").await;
        streams.push(stream);
    }
    agent.change_cr("my-db", "db", Scope::Namespaced);
    assert_eq!(
        rest(&mut streams[1]).await,
        None,
        "the one of another namespace is reset"
    );
    for stream in [0, 2] {
        let stream = &mut streams[stream];
        stream.write_all(b"again").await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(rest(stream).await.as_deref(), Some("again"));
    }
}

/// What may become of a Service while its CR stays.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Deleted,
    OfAnotherCr,
    AtAnotherPort,
}

impl Agent {
    fn change_service(&mut self, name: &str, fate: Fate) {
        let before = self.directory.entry(name).unwrap().entrance;
        let changed = match fate {
            Fate::Deleted => self.directory.remove_entrance(name),
            Fate::OfAnotherCr => self.directory.apply_entrance(Entrance {
                cr: cr_name("another"),
                ..Entrance::clone(&before)
            }),
            Fate::AtAnotherPort => self.directory.apply_entrance(Entrance {
                target_port: free_port(),
                ..Entrance::clone(&before)
            }),
        };
        self.apply(changed);
    }
}

async fn nobody_listens(port: u16) {
    let gone = async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, gone).await.expect("nobody listens any more");
}

#[tokio::test]
async fn a_service_that_is_lost_takes_nothing_along_that_is_open() {
    for fate in [Fate::Deleted, Fate::OfAnotherCr, Fate::AtAnotherPort] {
        let mut agent = Agent::new();
        agent.destination("db", &tcp_to(echo().await));
        let port = agent.cr("my-db", "db", Scope::ClusterWide, Speaks::Tcp);
        let mut own = connect(SHOP, port).await;
        let mut foreign = connect(BANK, port).await;
        for stream in [&mut own, &mut foreign] {
            say(stream, "hello").await;
            hear(stream, "hello").await;
        }
        agent.change_service("my-db", fate);
        nobody_listens(port).await;
        for stream in [&mut own, &mut foreign] {
            say(stream, "still here").await;
            hear(stream, "still here").await;
        }
        agent.change_cr("my-db", "db", Scope::Namespaced);
        assert_eq!(rest(&mut foreign).await, None, "{fate:?}: it has lost its right");
        say(&mut own, "again").await;
        hear(&mut own, "again").await;
        agent.no_cr("my-db");
        assert_eq!(rest(&mut own).await, None, "{fate:?}: the CR is gone");
        assert!(agent.entries.retired.is_empty(), "{fate:?}");
    }
}

#[tokio::test]
async fn nothing_is_kept_of_a_lost_service_once_its_connections_have_ended() {
    let mut agent = Agent::new();
    agent.destination("db", &tcp_to(echo().await));
    let port = agent.cr("my-db", "db", Scope::Namespaced, Speaks::Tcp);
    let mut stream = connect(SHOP, port).await;
    say(&mut stream, "hello").await;
    hear(&mut stream, "hello").await;
    agent.change_service("my-db", Fate::Deleted);
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await.as_deref(), Some(""));
    let forgotten = async {
        while !agent.entries.retired.is_empty() {
            tokio::task::yield_now().await;
            agent.entries.rest();
        }
    };
    timeout(PATIENCE, forgotten).await.expect("its end is noticed");
}

#[tokio::test]
async fn a_destination_that_goes_takes_its_tcp_connections_along() {
    let mut agent = Agent::new();
    agent.destination("db", &tcp_to(echo().await));
    let port = agent.cr("my-db", "db", Scope::Namespaced, Speaks::Tcp);
    let mut stream = connect(SHOP, port).await;
    stream.write_all(b"x").await.unwrap();
    stream.read_u8().await.unwrap();
    agent.no_cr("my-db");
    assert_eq!(rest(&mut stream).await, None);
    nobody_listens(port).await;
    assert!(agent.entries.open.is_empty());
}

/// A server that changes the protocol, and says everything again from then on.
async fn chat() -> SocketAddr {
    server(|mut stream| async move {
        let mut head = [0; 1024];
        if stream.read(&mut head).await? == 0 {
            return Ok(());
        }
        stream.write_all(AGREED.as_bytes()).await?;
        let (mut from, mut to) = stream.split();
        tokio::io::copy(&mut from, &mut to).await.map(drop)
    })
    .await
}

/// How somebody may lose the right to be connected.
#[derive(Debug, Clone, Copy)]
enum Loss {
    Scope,
    Resource,
}

impl Agent {
    fn take_away(&mut self, loss: Loss, name: &str, destination: &str) {
        match loss {
            Loss::Scope => self.change_cr(name, destination, Scope::Namespaced),
            Loss::Resource => self.no_cr(name),
        }
    }
}

async fn say(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

async fn hear(stream: &mut TcpStream, text: &str) {
    let mut heard = vec![0; text.len()];
    let read = timeout(PATIENCE, stream.read_exact(&mut heard));
    read.await.expect("an answer").unwrap();
    assert_eq!(String::from_utf8_lossy(&heard), text);
}

#[tokio::test]
async fn a_websocket_is_reset_when_its_right_is_lost() {
    for loss in [Loss::Scope, Loss::Resource] {
        let mut agent = Agent::new();
        agent.destination("chat", &http_to(chat().await));
        let port = agent.cr("my-chat", "chat", Scope::ClusterWide, Speaks::Http);
        let mut stream = connect(BANK, port).await;
        say(
            &mut stream,
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        )
        .await;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{loss:?}");
        say(&mut stream, "hello").await;
        hear(&mut stream, "hello").await;
        agent.take_away(loss, "my-chat", "chat");
        assert_eq!(rest(&mut stream).await, None, "{loss:?}");
    }
}

#[tokio::test]
async fn an_http_answer_is_finished_after_its_right_is_lost_and_nothing_follows() {
    for loss in [Loss::Scope, Loss::Resource] {
        let mut agent = Agent::new();
        let (go_on, gate) = tokio::sync::watch::channel(false);
        let target = server(move |mut stream| {
            let mut gate = gate.clone();
            async move {
                let mut head = [0; 1024];
                if stream.read(&mut head).await? > 0 {
                    stream
                        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none")
                        .await?;
                    let _ = gate.wait_for(|open| *open).await;
                    stream.write_all(b"two").await?;
                }
                Ok(())
            }
        })
        .await;
        agent.destination("backend", &http_to(target));
        let port = agent.cr("my-dest", "backend", Scope::ClusterWide, Speaks::Http);
        let mut stream = connect(BANK, port).await;
        say(&mut stream, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let mut answer = Vec::new();
        while !answer.ends_with(b"one") {
            answer.push(stream.read_u8().await.unwrap());
        }
        agent.take_away(loss, "my-dest", "backend");
        go_on.send_replace(true);
        assert_eq!(rest(&mut stream).await.as_deref(), Some("two"), "{loss:?}");
    }
}

/// The plane of today says nothing about connections of yesterday.
#[tokio::test]
async fn what_a_connection_began_as_decides_how_it_ends() {
    for loss in [Loss::Scope, Loss::Resource] {
        let mut agent = Agent::new();
        agent.destination("any", &tcp_to(echo().await));
        let port = agent.cr("my-any", "any", Scope::ClusterWide, Speaks::Tcp);
        let mut stream = connect(BANK, port).await;
        say(&mut stream, "hello").await;
        hear(&mut stream, "hello").await;
        agent.destination("any", &http_to(web("any").await));
        say(&mut stream, "still here").await;
        hear(&mut stream, "still here").await;
        agent.take_away(loss, "my-any", "any");
        assert_eq!(rest(&mut stream).await, None, "{loss:?}");
    }
}

#[tokio::test]
async fn who_became_known_after_it_came_in_stays_and_who_did_not_goes() {
    const NAMELESS: &str = "127.1.0.4";
    let mut agent = Agent::new();
    agent.destination("db", &tcp_to(echo().await));
    let port = agent.cr("my-db", "db", Scope::ClusterWide, Speaks::Tcp);
    let mut own = connect(STRANGER, port).await;
    let mut nameless = connect(NAMELESS, port).await;
    for stream in [&mut own, &mut nameless] {
        say(stream, "hello").await;
        hear(stream, "hello").await;
    }
    agent.pod(3, "shop", STRANGER);
    agent.change_cr("my-db", "db", Scope::Namespaced);
    assert_eq!(rest(&mut nameless).await, None);
    say(&mut own, "still here").await;
    hear(&mut own, "still here").await;
}

#[tokio::test]
async fn without_a_usable_destination_http_gets_the_documented_answer() {
    let mut agent = Agent::new();
    let port = agent.cr("my-dest", "backend", Scope::Namespaced, Speaks::Http);
    let answer = ask(SHOP, port, "X-Request-Id: r1\r\n").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert!(
        answer.contains(
            "Destination 'backend' referred in Destination CR 'my-dest' is not found in tenant 'secrets'."
        ),
        "{answer}"
    );
    assert!(answer.contains("x-request-id: r1"), "{answer}");
    assert!(answer.contains("x-error-internal-code: 404"), "{answer}");
    agent.secret("backend", &[("Type", "HTTP"), ("URL", "not a url")]);
    let answer = ask(SHOP, port, "").await.unwrap();
    assert!(
        answer.contains(
            "Received invalid configuration from Destination Service, requested via destination 'backend'."
        ),
        "{answer}"
    );
    agent.destination("backend", &http_to(web("backend").await));
    assert!(ask(SHOP, port, "").await.unwrap().ends_with("backend"));
    agent.no_secret("backend");
    assert!(ask(SHOP, port, "").await.unwrap().contains("is not found"));
    agent.change_cr("my-dest", "another", Scope::Namespaced);
    assert!(ask(SHOP, port, "").await.unwrap().contains("'another'"));
}

#[tokio::test]
async fn without_a_usable_destination_tcp_is_reset() {
    let mut agent = Agent::new();
    let port = agent.cr("my-db", "db", Scope::Namespaced, Speaks::Tcp);
    let mut stream = connect(SHOP, port).await;
    assert_eq!(rest(&mut stream).await, None);
    agent.destination("db", &tcp_to(echo().await));
    let mut stream = connect(SHOP, port).await;
    stream.write_all(b"x").await.unwrap();
    assert_eq!(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap(), b'x');
}

#[tokio::test]
async fn a_changed_destination_is_used_by_the_next_request() {
    let mut agent = Agent::new();
    agent.destination("backend", &http_to(web("old").await));
    let port = agent.cr("my-dest", "backend", Scope::Namespaced, Speaks::Http);
    assert!(ask(SHOP, port, "").await.unwrap().ends_with("old"));
    agent.destination("backend", &http_to(web("new").await));
    assert!(ask(SHOP, port, "").await.unwrap().ends_with("new"));
}

#[tokio::test]
async fn tcp_connections_that_stay_leave_room_for_http() {
    let mut agent = Agent::within(LimitsConfig {
        pause_at: Some(1),
        ..LimitsConfig::default()
    });
    agent.destination("db", &tcp_to(echo().await));
    agent.destination("backend", &http_to(web("backend").await));
    let db = agent.cr("my-db", "db", Scope::Namespaced, Speaks::Tcp);
    let http = agent.cr("my-dest", "backend", Scope::Namespaced, Speaks::Http);
    let mut first = connect(SHOP, db).await;
    say(&mut first, "hello").await;
    hear(&mut first, "hello").await;
    for _ in 0..3 {
        assert!(ask(SHOP, http, "").await.unwrap().ends_with("backend"));
    }
    let way = agent.entries.board().way("my-db").unwrap().unwrap();
    timeout(PATIENCE, async {
        while way.waits() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the wait is counted");
    drop(first);
    let mut second = connect(SHOP, db).await;
    say(&mut second, "hello").await;
    hear(&mut second, "hello").await;
}

#[tokio::test]
async fn a_connection_over_a_limit_is_remembered_for_its_resource() {
    let mut agent = Agent::within(LimitsConfig {
        per_source: 1,
        ..LimitsConfig::default()
    });
    agent.destination("db", &tcp_to(echo().await));
    let port = agent.cr("my-db", "db", Scope::Namespaced, Speaks::Tcp);
    let mut first = connect(SHOP, port).await;
    say(&mut first, "hello").await;
    hear(&mut first, "hello").await;
    assert_eq!(rest(&mut connect(SHOP, port).await).await, None);
    assert_eq!(agent.refusals("my-db"), [("shop/app".to_owned(), "per_source")]);
}

#[tokio::test]
async fn http_over_a_limit_is_told_to_come_again() {
    let mut agent = Agent::within(LimitsConfig {
        per_source: 1,
        ..LimitsConfig::default()
    });
    agent.destination("backend", &http_to(web("backend").await));
    let port = agent.cr("my-dest", "backend", Scope::Namespaced, Speaks::Http);
    let mut first = connect(SHOP, port).await;
    say(&mut first, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    hear(&mut first, "HTTP/1.1 200 OK\r\n").await;
    let mut second = connect(SHOP, port).await;
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(read @ 1..) = timeout(PATIENCE, second.read(&mut buffer)).await.expect("an end") {
        answer.extend_from_slice(&buffer[..read]);
    }
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
        "{answer}"
    );
    for field in [
        "retry-after: 1",
        "connection: close",
        "x-error-origin: Transparent Proxy",
        "x-request-id: ",
    ] {
        assert!(head.contains(field), "{field}: {answer}");
    }
    assert!(
        head.ends_with(&format!("content-length: {}", body.len())),
        "{answer}"
    );
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["error"]["status"], 503);
    assert_eq!(agent.refusals("my-dest"), [("shop/app".to_owned(), "per_source")]);
}

#[tokio::test]
async fn a_gateway_leads_to_the_destination_that_a_request_names() {
    let mut agent = Agent::new();
    agent.destination("one", &http_to(web("one").await));
    agent.destination("two", &http_to(web("two").await));
    agent.destination("db", &tcp_to(echo().await));
    let port = agent.cr("gateway", "*", Scope::Namespaced, Speaks::Http);
    for name in ["one", "two"] {
        let answer = ask(SHOP, port, &format!("X-Destination-Name: {name}\r\n"))
            .await
            .unwrap();
        assert!(answer.ends_with(name), "{answer}");
    }
    for (fields, status, message) in [
        ("", "400", "'x-destination-name' header is missing"),
        (
            "X-Destination-Name: a@b\r\n",
            "400",
            "contains characters that are not allowed",
        ),
        (
            "X-Destination-Name: three\r\n",
            "502",
            "Destination 'three' not found in tenant 'secrets'.",
        ),
        (
            "X-Destination-Name: db\r\n",
            "502",
            "requested via destination 'db'",
        ),
        (
            "X-Destination-Name: one\r\nX-Destination-Name: two\r\n",
            "400",
            "should be passed only once",
        ),
    ] {
        let answer = ask(SHOP, port, fields).await.unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{fields}: {answer}"
        );
        assert!(answer.contains(message), "{fields}: {answer}");
    }
    assert!(!agent.scraped().contains("three"));
}

/// Nobody is asked for a token, least of all in the name of somebody else.
#[tokio::test]
async fn a_request_does_not_decide_how_a_token_is_fetched_for_it() {
    let mut agent = Agent::new();
    agent.destination("backend", &http_to(web("backend").await));
    let mut oauth2 = http_to(web("oauth2").await).to_vec();
    oauth2.extend([
        ("Authentication", "OAuth2ClientCredentials".into()),
        ("tokenServiceURL", "http://tokens.example:1/token".into()),
        ("clientId", "client".into()),
        ("clientSecret", "secret".into()),
    ]);
    agent.destination("oauth2", &oauth2);
    let plain = agent.cr("plain", "backend", Scope::Namespaced, Speaks::Http);
    let port = agent.cr("my-dest", "oauth2", Scope::Namespaced, Speaks::Http);
    let gateway = agent.cr("gateway", "*", Scope::Namespaced, Speaks::Http);
    for (fields, message) in [
        (
            "X-Token-Service-Tenant: acme\r\n",
            "'tokenServiceURLType' property in the destination is of type Dedicated.",
        ),
        (
            "X-Client-Assertion: a\r\nX-Client-Assertion-Type: b\r\n",
            "'x-client-assertion' header is not supported by Destination service instance 'secrets'.",
        ),
    ] {
        let by_gateway = format!("X-Destination-Name: oauth2\r\n{fields}");
        for (port, fields) in [(port, fields), (gateway, &by_gateway)] {
            let answer = ask(SHOP, port, fields).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 400"), "{fields}: {answer}");
            assert!(answer.contains(message), "{fields}: {answer}");
        }
        assert!(
            ask(SHOP, plain, fields).await.unwrap().ends_with("backend"),
            "no token is fetched"
        );
    }
    let incomplete = ask(SHOP, plain, "X-Client-Assertion: a\r\n").await.unwrap();
    assert!(incomplete.starts_with("HTTP/1.1 400"), "{incomplete}");
}

#[tokio::test]
async fn what_is_not_supported_is_said_with_every_request() {
    let mut agent = Agent::new();
    let port = agent.cr("my-dest", "backend", Scope::Namespaced, Speaks::Http);
    let mut resource = crate::api::destination::Destination::new("my-dest", DestinationSpec::default());
    resource.metadata.namespace = Some("shop".to_owned());
    resource.spec.destination_ref.name = "backend".to_owned();
    resource.spec.destination_service_instance_name = Some("btp".to_owned());
    let changed = agent.directory.apply_cr(Cr::of(resource).unwrap());
    agent.apply(changed);
    let answer = ask(SHOP, port, "").await.unwrap();
    assert!(
        answer.contains("The Destination service instance name in the Destination CR 'my-dest' is not configured as expected."),
        "{answer}"
    );
}

#[tokio::test]
async fn a_taken_port_is_tried_again() {
    let mut agent = Agent::new();
    agent.destination("backend", &http_to(web("backend").await));
    let taken = StdListener::bind("[::]:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let changed = agent.directory.apply_entrance(Entrance {
        service: "my-dest".into(),
        cr: cr_name("my-dest"),
        addresses: ["10.96.0.1".parse().unwrap()].into(),
        port: 80,
        target_port: port,
        speaks: Speaks::Http,
        created: 0,
    });
    agent.apply(changed);
    agent.change_cr("my-dest", "backend", Scope::Namespaced);
    assert!(agent.entries.has_failed());
    agent.entries.retry();
    assert!(agent.entries.has_failed());
    drop(taken);
    agent.entries.retry();
    assert!(!agent.entries.has_failed());
    assert!(ask(SHOP, port, "").await.unwrap().ends_with("backend"));
}

#[tokio::test]
async fn the_end_of_the_agent_waits_for_open_connections() {
    let mut agent = Agent::new();
    agent.destination("db", &tcp_to(echo().await));
    let port = agent.cr("my-db", "db", Scope::Namespaced, Speaks::Tcp);
    let mut stream = connect(SHOP, port).await;
    stream.write_all(b"x").await.unwrap();
    stream.read_u8().await.unwrap();
    let drain = agent.drain.clone();
    let finishing = tokio::spawn(async move { drain.finish(PATIENCE).await });
    agent.drain.signal().draining().await;
    stream.write_all(b"y").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'y');
    assert!(!finishing.is_finished());
    drop(stream);
    let drained = timeout(PATIENCE, finishing).await.unwrap().unwrap();
    assert_eq!(drained, crate::lifecycle::drain::Drained::Finished);
}

/// Others take over meanwhile. Closed when it is not in use, a connection would take a request along that is on
/// its way.
#[tokio::test]
async fn an_agent_that_is_about_to_end_answers_and_closes() {
    let mut agent = Agent::new();
    agent.destination("backend", &http_to(web("backend").await));
    let port = agent.cr("my-dest", "backend", Scope::Namespaced, Speaks::Http);
    let mut before = connect(SHOP, port).await;
    say(&mut before, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    hear(&mut before, "HTTP/1.1 200 OK\r\n").await;
    agent.drain.leave();
    let mut after = connect(SHOP, port).await;
    for stream in [&mut before, &mut after] {
        say(stream, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let answer = rest(stream).await.expect("no reset");
        assert!(answer.contains("onnection: close\r\n"), "{answer}");
        assert!(answer.ends_with("backend"), "{answer}");
    }
}

#[test]
fn a_virtual_ip_leads_to_the_own_address_of_its_family() {
    let entry = |addresses: &[&str], audience| Entry {
        entrance: Arc::new(Entrance {
            service: "my-dest".into(),
            cr: cr_name("my-dest"),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            port: 80,
            target_port: 10_001,
            speaks: Speaks::Http,
            created: 0,
        }),
        cr: Arc::new(
            serde_json::from_value(json!({
                "namespace": "shop", "name": "my-dest", "spec": {"destinationRef": {"name": "backend"}},
            }))
            .unwrap(),
        ),
        audience,
    };
    let numbers = Numbers::default();
    let leads = |entry: &Entry, ips: &[&str]| -> Vec<String> {
        let ips: Vec<IpAddr> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        let routes = routes(entry, &ips, &numbers);
        routes
            .iter()
            .map(|route| format!("{} {} {}", route.virtual_address, route.proxy, route.namespace.0))
            .collect()
    };
    let dual = entry(&["10.96.0.1", "fd00:96::1"], Audience::Cluster);
    assert_eq!(
        leads(&dual, &["10.0.0.1", "fd00::1"]),
        [
            "10.96.0.1:80 10.0.0.1:10001 0",
            "[fd00:96::1]:80 [fd00::1]:10001 0"
        ]
    );
    assert_eq!(leads(&dual, &["fd00::1"]), ["[fd00:96::1]:80 [fd00::1]:10001 0"]);
    let namespaced = entry(&["10.96.0.1"], Audience::Namespace("shop".into()));
    assert_eq!(
        leads(&namespaced, &["10.0.0.1"]),
        ["10.96.0.1:80 10.0.0.1:10001 1"]
    );
}

#[tokio::test]
async fn metrics_do_not_remember_destinations_for_ever() {
    let mut agent = Agent::new();
    agent.destination("backend", &http_to(web("backend").await));
    let port = agent.cr("my-dest", "backend", Scope::Namespaced, Speaks::Http);
    ask(SHOP, port, "").await.unwrap();
    agent.no_secret("backend");
    ask(SHOP, port, "").await.unwrap();
    let of_backend = |text: String| text.lines().filter(|line| line.contains("backend")).count();
    assert!(of_backend(agent.scraped()) > 3, "a CR still asks for it");
    agent.no_cr("my-dest");
    assert_eq!(of_backend(agent.scraped()), 0);
}

/// By hand, or by a manager that repairs it; the target port stays.
#[tokio::test]
async fn a_service_that_is_deleted_and_made_again_is_served_again() {
    let mut agent = Agent::new();
    agent.destination("backend", &http_to(web("backend").await));
    let port = agent.cr("my-dest", "backend", Scope::Namespaced, Speaks::Http);
    assert!(ask(SHOP, port, "").await.unwrap().ends_with("backend"));
    let entrance = agent.directory.entry("my-dest").unwrap().entrance;
    agent.change_service("my-dest", Fate::Deleted);
    let again = agent.directory.apply_entrance(Entrance::clone(&entrance));
    agent.apply(again);
    agent.retried().await;
    assert!(ask(SHOP, port, "").await.unwrap().ends_with("backend"));
}

/// kube-proxy leads the callers of both to one listener, and nobody says which one they meant.
#[tokio::test]
async fn of_two_services_with_one_target_port_nobody_gets_the_wrong_one() {
    let mut agent = Agent::new();
    agent.destination("one", &http_to(web("one").await));
    agent.destination("two", &http_to(web("two").await));
    let port = free_port();
    agent.service("a-young", port, Speaks::Http, 20);
    agent.change_cr("a-young", "one", Scope::ClusterWide);
    assert!(ask(SHOP, port, "").await.unwrap().ends_with("one"));
    agent.service("z-old", port, Speaks::Http, 10);
    agent.change_cr("z-old", "two", Scope::ClusterWide);
    agent.retried().await;
    assert_eq!(ask(SHOP, port, "").await, None);
    assert_eq!(
        agent.refusals("z-old"),
        [("shop/app".to_owned(), "target_port_of_two")]
    );
    let board = agent.entries.board();
    assert!(board.way("z-old").unwrap().is_ok(), "the older one has the port");
    let reason = board.way("a-young").unwrap().err().unwrap();
    assert!(reason.contains("is that of the older Service z-old"), "{reason}");
    let other = free_port();
    agent.service("a-young", other, Speaks::Http, 20);
    assert!(ask(SHOP, port, "").await.unwrap().ends_with("two"));
    assert!(ask(SHOP, other, "").await.unwrap().ends_with("one"));
}

/// Names do not say who has the address now.
#[tokio::test]
async fn a_virtual_ip_that_changes_hands_is_the_new_ones() {
    let mut agent = Agent::new();
    agent.destination("backend", &http_to(web("backend").await));
    agent.cr("z", "backend", Scope::Namespaced, Speaks::Http);
    agent.service("a", free_port(), Speaks::Http, 0);
    agent.change_cr("a", "backend", Scope::Namespaced);
    agent.no_cr("z");
    let sign = agent.entries.board().cr("10.96.0.1".parse().unwrap());
    assert_eq!(sign, Some(cr_name("a")));
}

/// Its sidecar sends others' connections from the pod's own loopback address.
#[tokio::test]
async fn in_a_mesh_nothing_is_known_of_what_comes_from_loopback() {
    let mut agent = Agent::new();
    agent.destination("backend", &http_to(web("backend").await));
    let port = agent.cr("my-dest", "backend", Scope::Namespaced, Speaks::Http);
    assert!(ask(PORT_FORWARD, port, "").await.unwrap().ends_with("backend"));
    agent.own.restore(&own_pod("agent-1", true), "agent-1");
    assert_eq!(ask(PORT_FORWARD, port, "").await, None);
    assert!(ask(SHOP, port, "").await.unwrap().ends_with("backend"));
    agent.own.restore(&own_pod("another", false), "agent-1");
    assert_eq!(
        ask(PORT_FORWARD, port, "").await,
        None,
        "sidecars come with a pod"
    );
}
