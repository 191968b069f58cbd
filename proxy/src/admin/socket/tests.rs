use std::net::SocketAddr;

use super::*;
use crate::admin::explain::{Agent, ApiServer, Counters, Destination, Times};
use crate::admin::probes::{Hook, HookState};
use crate::lifecycle::drain::Drain;
use crate::telemetry::connections::{About, Connections};

struct Fake(Connections);

impl Answers for Fake {
    fn explain(&self, namespace: &str, name: &str) -> Report {
        Report {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            agent: Agent {
                node: "node-1".into(),
                pod: "agent".into(),
                fallback: true,
                hook: Hook {
                    state: HookState::Off,
                    cgroup: None,
                    reason: None,
                },
                self_test: None,
                api_server: ApiServer {
                    listed: true,
                    silent_seconds: 0,
                    problem: None,
                },
                namespace_label: None,
            },
            resource: None,
            same_name_in: vec![],
            services: vec![],
            destination: Destination::Unknown,
            callers: vec![],
            refusals: vec![],
            counters: Counters::default(),
            limits: None,
            times: Times::default(),
        }
    }

    fn connections(&self) -> Vec<Snapshot> {
        self.0.snapshot()
    }
}

struct Server {
    folder: tempfile::TempDir,
    connections: Connections,
    drain: Drain,
}

impl Server {
    fn start() -> Self {
        let server = Self {
            folder: tempfile::tempdir().unwrap(),
            connections: Connections::default(),
            drain: Drain::new(),
        };
        let listener = bind(server.folder.path()).unwrap();
        let answers = Arc::new(Fake(server.connections.clone()));
        tokio::spawn(serve(listener, answers, server.drain.signal()));
        server
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(NAME)
    }

    /// What comes back for these bytes.
    async fn raw(&self, question: &[u8]) -> Vec<u8> {
        let mut stream = UnixStream::connect(self.path()).await.unwrap();
        stream.write_all(question).await.unwrap();
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        answer
    }
}

#[tokio::test]
async fn an_agent_explains_and_lists_its_connections() {
    let server = Server::start();
    let report = explain(server.folder.path(), "shop", "my-dest").await.unwrap();
    assert_eq!(report, Fake(Connections::default()).explain("shop", "my-dest"));
    assert_eq!(connections(server.folder.path()).await.unwrap(), []);
    let source = SocketAddr::from(([10, 244, 1, 9], 4711));
    let _listed = server.connections.open(About {
        id: 1,
        protocol: "tcp",
        cr: Some("shop/my-db".into()),
        destination: "db".into(),
        source,
        target: "db.example:5432".into(),
    });
    let open = connections(server.folder.path()).await.unwrap();
    assert_eq!((open.len(), open[0].cr.as_deref()), (1, Some("shop/my-db")));
}

#[tokio::test]
async fn only_the_owner_can_open_it() {
    let server = Server::start();
    let mode = std::fs::metadata(server.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_socket_that_was_left_is_replaced() {
    let server = Server::start();
    server.drain.cut();
    let listener = bind(server.folder.path()).unwrap();
    let drain = Drain::new();
    tokio::spawn(serve(
        listener,
        Arc::new(Fake(Connections::default())),
        drain.signal(),
    ));
    explain(server.folder.path(), "a", "b").await.unwrap();
    let left = std::fs::read_dir(server.folder.path()).unwrap().count();
    assert_eq!(left, 1);
}

#[tokio::test]
async fn nonsense_is_not_answered_and_disturbs_nobody() {
    let server = Server::start();
    let long = vec![b' '; 10_000];
    for nonsense in [&b""[..], b"{", b"\"explain\"", b"{\"explain\":{}}", &long] {
        assert_eq!(server.raw(nonsense).await, b"");
    }
    explain(server.folder.path(), "a", "b").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let listener = bind(folder.path()).unwrap();
    // Somebody takes the question and says nothing.
    let silent = tokio::spawn(async move {
        let taken = listener.accept().await.unwrap();
        std::future::pending::<()>().await;
        drop(taken);
    });
    let error = explain(folder.path(), "a", "b").await.unwrap_err();
    assert_eq!(error.to_string(), "the agent did not answer within 10 s");
    silent.abort();
}

#[tokio::test]
async fn without_an_agent_the_error_says_where_to_go() {
    let folder = tempfile::tempdir().unwrap();
    let error = connections(folder.path()).await.unwrap_err().to_string();
    assert!(error.contains("kubectl exec") && error.contains(NAME), "{error}");
}
