//! `doctor` for roles on Kubernetes: rights in front of a real API server, the hook on this machine.

use std::path::PathBuf;
use std::process::Output;

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, ObjectMeta, PostParams};
use serde_json::{Value, json};
use transparent_proxy::api::destination::definition;
use transparent_proxy::datapath::cgroup::{self, Mount};

use crate::harness::account::{self, Account};
use crate::harness::api_server::ApiServer;
use crate::harness::binary;
use crate::harness::node::privileged;

struct Doctor {
    folder: tempfile::TempDir,
    kubeconfig: PathBuf,
    namespace: String,
    settings: Value,
}

impl Doctor {
    fn new(server: &ApiServer, namespace: &str) -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            kubeconfig: server.kubeconfig(),
            namespace: namespace.to_owned(),
            settings: json!({}),
        }
    }

    fn run(&self, role: &str, more: &[&str]) -> Output {
        let config = self.folder.path().join("config.json");
        std::fs::write(&config, self.settings.to_string()).expect("settings");
        binary::command()
            .args([
                "doctor",
                "--role",
                role,
                "--namespace",
                &self.namespace,
                "--ips",
                "10.0.0.1",
            ])
            .arg("--config")
            .arg(config)
            .args(more)
            .env("KUBECONFIG", &self.kubeconfig)
            .output()
            .expect("transparent-proxy starts")
    }

    fn with_account(mut self, account: &Account) -> Self {
        self.kubeconfig = account.instead_of(&self.kubeconfig);
        self
    }
}

/// Makes an account without any rights.
async fn nobody(server: &ApiServer, namespace: &str) -> &'static str {
    let accounts: Api<ServiceAccount> = Api::namespaced(server.client().await, namespace);
    let account = ServiceAccount {
        metadata: ObjectMeta {
            name: Some("nobody".into()),
            ..ObjectMeta::default()
        },
        ..ServiceAccount::default()
    };
    accounts
        .create(&PostParams::default(), &account)
        .await
        .expect("an account");
    "nobody"
}

/// A cgroup with one for pods in it, and nobody inside.
struct Tree(PathBuf);

impl Tree {
    fn new() -> Self {
        let root = Mount::find().expect("cgroup v2 is mounted").mount_point;
        let tree = Self(root.join(format!("tproxy-test-doctor-{}", std::process::id())));
        std::fs::create_dir_all(tree.0.join("kubepods.slice")).expect("cgroups");
        tree
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        cgroup::remove_tree(&self.0).ok();
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_do_everything_is_fit() {
    let server = ApiServer::shared().await;
    server.define(&definition()).await;
    let namespace = server.namespace("doctor-all").await;
    let doctor = Doctor::new(server, &namespace);
    for role in ["fallback", "manager", "healthcheck"] {
        let output = doctor.run(role, &["--format", "json"]);
        assert!(output.status.success(), "{}", text(&output));
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(value["fit"], true, "{value:#}");
        let detail = |name: &str| {
            let checks = value["checks"].as_array().unwrap();
            let check = checks.iter().find(|check| check["name"] == name);
            check.map(|check| check["detail"].as_str().unwrap().to_owned())
        };
        assert!(
            detail("API server").unwrap().starts_with("it answers: v1."),
            "{value:#}"
        );
        assert_eq!(detail("rights").unwrap(), "everything that is needed is allowed");
        assert_eq!(
            detail("Destination resources").unwrap(),
            "the API server knows them"
        );
        assert_eq!(
            detail("Secrets with destinations").is_some(),
            role != "healthcheck"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_not_allowed_is_named() {
    let server = ApiServer::shared().await;
    server.define(&definition()).await;
    let namespace = server.namespace("doctor-nobody").await;
    let doctor = Doctor {
        settings: json!({"secrets": {"namespaces": ["shop"]}}),
        ..Doctor::new(server, &namespace)
    };
    let account = Account::of(server, &namespace, nobody(server, &namespace).await).await;
    let output = doctor.with_account(&account).run("fallback", &[]);
    assert_eq!(output.status.code(), Some(1));
    let text = text(&output);
    for line in [
        "failed   rights: not allowed: list destinations in all namespaces, watch destinations".to_owned(),
        format!("failed   Secrets with destinations: not allowed: list secrets in {namespace}, watch"),
        "list secrets in shop".to_owned(),
        "-> see the roles and bindings of this pod's service account".to_owned(),
        "failed   Destination resources: ".to_owned(),
        "This pod is not fit yet".to_owned(),
    ] {
        assert!(text.contains(&line), "{line} in\n{text}");
    }
}

/// Neither asks for more than the chart gives, nor does the chart forget anything.
#[tokio::test(flavor = "multi_thread")]
async fn the_accounts_of_the_chart_are_fit() {
    let server = ApiServer::shared().await;
    server.define(&definition()).await;
    let namespace = server.namespace("doctor-chart").await;
    for (role, account) in [
        ("fallback", account::PROXY),
        ("manager", account::MANAGER),
        ("healthcheck", account::HEALTHCHECK),
    ] {
        let doctor = Doctor {
            settings: json!({"managedNamespacesMode": "labelSelector"}),
            ..Doctor::new(server, &namespace)
        };
        let account = Account::of_chart(server, &namespace, account).await;
        let output = doctor.with_account(&account).run(role, &[]);
        assert!(output.status.success(), "{}", text(&output));
    }
}

/// In an upgrade, a container of the old version may start again beside the settings of the new one.
#[tokio::test(flavor = "multi_thread")]
async fn settings_of_another_version_are_named() {
    let server = ApiServer::shared().await;
    server.define(&definition()).await;
    let namespace = server.namespace("doctor-other").await;
    let doctor = Doctor {
        settings: json!({"logging": {"colour": true}}),
        ..Doctor::new(server, &namespace)
    };
    let output = doctor.run("healthcheck", &[]);
    let text = text(&output);
    assert!(
        text.contains("warning  settings: in ") && text.contains("this version ignores logging.colour"),
        "{text}"
    );
    assert!(output.status.success(), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_are_wrong_and_kinds_that_are_not_defined_are_told() {
    let server = ApiServer::start().await;
    let namespace = server.namespace("doctor-new").await;
    let doctor = Doctor {
        settings: json!({"tenantMode": "sharde"}),
        ..Doctor::new(&server, &namespace)
    };
    let text = text(&doctor.run("healthcheck", &[]));
    assert!(
        text.contains("failed   settings: ") && text.contains("unknown variant `sharde`"),
        "{text}"
    );
    assert!(
        text.contains("failed   Destination resources: the API server does not know them"),
        "{text}"
    );
    server.kill();
    let text = self::text(&doctor.run("healthcheck", &[]));
    assert!(
        text.contains("failed   API server: it does not answer: "),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agents_hook_proves_itself_below_the_tree_of_its_settings() {
    if !privileged() {
        return;
    }
    let server = ApiServer::shared().await;
    server.define(&definition()).await;
    let namespace = server.namespace("doctor-agent").await;
    let tree = Tree::new();
    let doctor = Doctor {
        settings: json!({"ebpf": {"cgroupRoot": tree.0}}),
        ..Doctor::new(server, &namespace)
    };
    let output = doctor.run("agent", &[]);
    let text = text(&output);
    for line in [
        "ok       capabilities: BPF and NET_ADMIN are in effect".to_owned(),
        format!(
            "ok       cgroups of pods: at {}/kubepods.slice, made by the driver systemd",
            tree.0.display()
        ),
        "ok       eBPF programs: the kernel accepts them".to_owned(),
        "ok       hook: connections of pods in ".to_owned(),
        "ok       addresses of this pod: 10.0.0.1: IPv4 alone is served".to_owned(),
        "This pod is fit for `transparent-proxy agent`.".to_owned(),
    ] {
        assert!(text.contains(&line), "{line} in\n{text}");
    }
    assert!(output.status.success(), "{text}");
}
