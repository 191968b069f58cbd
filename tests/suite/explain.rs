//! `explain` and `connections` as commands, in front of an agent's socket.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use serde_json::Value;
use transparent_proxy::admin::explain::{
    Agent, ApiServer, Counters, Destination, Listener, Report, Resource, Service, Times,
};
use transparent_proxy::admin::probes::{Hook, HookState};
use transparent_proxy::admin::socket::{self, Answers};
use transparent_proxy::api::destination::Scope;
use transparent_proxy::lifecycle::drain::Drain;
use transparent_proxy::telemetry::connections::{About, Connections, Snapshot};

use crate::harness::binary;
use crate::harness::node::privileged;

/// Knows one destination, `shop/my-dest`.
struct Fake(Connections);

impl Answers for Fake {
    fn explain(&self, namespace: &str, name: &str) -> Report {
        let known = (namespace, name) == ("shop", "my-dest");
        Report {
            namespace: namespace.into(),
            name: name.into(),
            agent: agent(),
            resource: known.then(|| Resource {
                destination: "backend".into(),
                scope: Scope::ClusterWide,
                broken: None,
            }),
            same_name_in: vec!["shop".into()],
            services: if known { vec![service()] } else { vec![] },
            destination: Destination::Gateway,
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

fn agent() -> Agent {
    Agent {
        node: "node-1".into(),
        pod: "sap-transp-proxy-abcde".into(),
        fallback: false,
        hook: Hook {
            state: HookState::Off,
            cgroup: None,
            reason: None,
        },
        self_test: None,
        api_server: ApiServer {
            listed: true,
            silent_seconds: 1,
            problem: None,
        },
        namespace_label: None,
    }
}

fn service() -> Service {
    Service {
        name: "my-dest".into(),
        addresses: vec!["10.96.0.7".parse().unwrap()],
        port: 80,
        target_port: 10001,
        protocol: "http".into(),
        listener: Listener::Open,
        kernel: vec![],
    }
}

/// An agent with one open connection.
struct Running {
    folder: tempfile::TempDir,
    _listed: transparent_proxy::telemetry::connections::Listed,
}

impl Running {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let connections = Connections::default();
        let source = "10.244.1.9:4711".parse().unwrap();
        let listed = connections.open(About {
            id: 7,
            protocol: "tcp",
            cr: Some("shop/my-db".into()),
            destination: "db".into(),
            source,
            target: "db.example:5432".into(),
        });
        let listener = socket::bind(folder.path()).expect("a socket");
        let answers = Arc::new(Fake(connections));
        tokio::spawn(socket::serve(listener, answers, Drain::new().signal()));
        Self {
            folder,
            _listed: listed,
        }
    }

    fn ask(&self, words: &[&str]) -> Output {
        ask(self.folder.path(), words)
    }
}

fn ask(folder: &Path, words: &[&str]) -> Output {
    binary::command()
        .args(words)
        .arg("--run")
        .arg(folder)
        .output()
        .expect("transparent-proxy starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_works_is_explained_for_people_and_for_programs() {
    let running = Running::start();
    let output = running.ask(&["explain", "shop/my-dest"]);
    assert!(output.status.success(), "{output:?}");
    let said = text(&output.stdout);
    assert!(
        said.starts_with("shop/my-dest, as the agent on node-1 sees it\n"),
        "{said}"
    );
    assert!(said.ends_with("Nothing is in the way here.\n"), "{said}");
    let output = running.ask(&["explain", "shop/my-dest", "--format", "json"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&json["verdict"], &json["report"]["name"]),
        (&"ok".into(), &"my-dest".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_work_gives_code_1_and_says_why() {
    let running = Running::start();
    let output = running.ask(&["explain", "bank/my-dest"]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stdout);
    assert!(
        said.contains("there is none that is called bank/my-dest; there is one of that name in shop"),
        "{said}"
    );
    let output = running.ask(&["explain", "my-dest"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("is not NAMESPACE/NAME"),
        "{output:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn open_connections_are_listed() {
    let running = Running::start();
    let said = text(&running.ask(&["connections"]).stdout);
    let row = said.lines().nth(1).expect("a row").split_whitespace();
    let row: Vec<&str> = row.take(7).collect();
    let wanted = [
        "7",
        "tcp",
        "10.244.1.9:4711",
        "shop/my-db",
        "db",
        "db.example:5432",
        "dialling",
    ];
    assert_eq!(row, wanted);
    let output = running.ask(&["connections", "--format", "json"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json[0]["cr"], "shop/my-db");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_may_ask() {
    if !privileged() {
        return;
    }
    let running = Running::start();
    // Not the folder is what keeps them out.
    std::fs::set_permissions(running.folder.path(), Permissions::from_mode(0o755)).unwrap();
    let folder = running.folder.path().display().to_string();
    let output = binary::as_nobody(&["connections", "--run", &folder]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("Permission denied"), "{output:?}");
}

#[test]
fn without_an_agent_the_message_says_where_to_go() {
    let folder = tempfile::tempdir().unwrap();
    let output = ask(folder.path(), &["explain", "shop/my-dest"]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(
        said.contains("no agent answers at ") && said.contains("kubectl exec"),
        "{said}"
    );
}
