//! Accounts of the chart, with the rights that it renders for them: whoever runs with one of them finds
//! out what is missing there.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use super::api_server::ApiServer;
use super::{binary, peers, wait};

pub const PROXY: &str = "sap-transp-proxy-service-account";
pub const MANAGER: &str = "sap-transp-proxy-manager-service-account";
pub const HEALTHCHECK: &str = "sap-transp-proxy-healthcheck-service-account";
pub const CLEANUP: &str = "sap-transp-proxy-cleanup-service-account";

const DEADLINE: Duration = Duration::from_secs(20);

/// A service account, by which programs may come in.
pub struct Account {
    token: String,
    folder: TempDir,
}

impl Account {
    /// One that is there.
    pub async fn of(server: &ApiServer, namespace: &str, name: &str) -> Self {
        let accounts: Api<ServiceAccount> = Api::namespaced(server.client().await, namespace);
        let request = TokenRequest {
            spec: TokenRequestSpec::default(),
            ..TokenRequest::default()
        };
        let token = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await
            .expect("a token");
        Self {
            token: token.status.expect("it was made").token,
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    /// One of the chart's, with its rights in force, for an installation in this namespace.
    pub async fn of_chart(server: &ApiServer, namespace: &str, name: &str) -> Self {
        let objects = rendered(namespace);
        apply(server, &objects);
        let account = Self::of(server, namespace, name).await;
        let file = Kubeconfig::read_from(account.instead_of(&server.kubeconfig())).expect("a kubeconfig");
        let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
        let client = kube::Client::try_from(config.expect("it is complete")).expect("a client");
        for right in rights(&objects, name) {
            in_force(&client, &right).await;
        }
        account
    }

    /// For `KUBECONFIG`: the way in that such a file says, as this account.
    pub fn instead_of(&self, kubeconfig: &Path) -> PathBuf {
        let text = std::fs::read_to_string(kubeconfig).expect("a kubeconfig");
        let mut file: Value = serde_json::from_str(&text).expect("it is JSON");
        file["users"][0]["user"]["token"] = self.token.as_str().into();
        let path = self.folder.path().join("kubeconfig");
        std::fs::write(&path, file.to_string()).expect("a kubeconfig");
        path
    }
}

/// The API server watches its own roles.
async fn in_force(client: &kube::Client, right: &Value) {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let review = json!({"spec": {"resourceAttributes": right}});
    let review = serde_json::from_value(review).expect("a review");
    let end = Instant::now() + DEADLINE;
    loop {
        let answer = reviews.create(&PostParams::default(), &review).await;
        if answer.is_ok_and(|answer| answer.status.is_some_and(|status| status.allowed)) {
            return;
        }
        assert!(Instant::now() < end, "not allowed: {right}");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// Accounts and rights, without anything that would run.
fn rendered(namespace: &str) -> Vec<Value> {
    const KINDS: [&str; 5] = [
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "Role",
        "RoleBinding",
    ];
    let output = Command::new(peers::path("helm"))
        .args(["template", "transparent-proxy", "--namespace", namespace])
        .args(["--kube-version", "v1.33.0"])
        .args(["--set", "config.managedNamespacesMode=labelSelector"])
        .arg(binary::tests_folder().join("../charts/transparent-proxy"))
        .output()
        .expect("helm starts");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("helm writes text");
    let objects: Vec<Option<Value>> = serde_saphyr::from_multiple(&text).expect("helm writes YAML");
    let mut objects: Vec<Value> = objects.into_iter().flatten().collect();
    objects.retain(|object| KINDS.iter().any(|kind| object["kind"] == **kind));
    objects
}

fn apply(server: &ApiServer, objects: &[Value]) {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let mut apply = Command::new(peers::path("kubectl"))
        .args(["apply", "--filename", "-"])
        .env("KUBECONFIG", server.kubeconfig())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("kubectl starts");
    let mut input = apply.stdin.take().expect("its input is piped");
    input.write_all(list.to_string().as_bytes()).expect("it reads");
    drop(input);
    assert!(wait::exit(&mut apply).success());
}

/// As an access review asks for them.
fn rights(objects: &[Value], account: &str) -> Vec<Value> {
    let is_of = |binding: &&Value| {
        let mut subjects = binding["subjects"].as_array().into_iter().flatten();
        subjects.any(|subject| subject["name"] == account)
    };
    let role_of = |binding: &Value| {
        let (name, kind) = (&binding["roleRef"]["name"], &binding["roleRef"]["kind"]);
        let namespace = &binding["metadata"]["namespace"];
        let mut objects = objects.iter();
        let role = objects.find(|object| {
            object["kind"] == *kind
                && object["metadata"]["name"] == *name
                && object["metadata"]["namespace"] == *namespace
        });
        role.expect("what is bound is rendered").clone()
    };
    let roles = objects.iter().filter(is_of).map(role_of);
    let rights: Vec<Value> = roles.flat_map(|role| rights_of(&role)).collect();
    assert!(!rights.is_empty(), "{account} may do nothing");
    rights
}

fn rights_of(role: &Value) -> Vec<Value> {
    let texts = |value: &Value| serde_json::from_value::<Vec<String>>(value.clone()).unwrap_or_default();
    let mut rights = Vec::new();
    for rule in role["rules"].as_array().into_iter().flatten() {
        let name = texts(&rule["resourceNames"])
            .into_iter()
            .next()
            .unwrap_or_default();
        for resource in texts(&rule["resources"]) {
            let (resource, subresource) = resource.split_once('/').unwrap_or((&resource, ""));
            for verb in texts(&rule["verbs"]) {
                rights.push(json!({
                    "group": rule["apiGroups"][0], "resource": resource, "subresource": subresource,
                    "verb": verb, "name": name, "namespace": role["metadata"]["namespace"],
                }));
            }
        }
    }
    rights
}
