//! What API servers accept, refuse, fill in and drop, as recorded with the manifests.

use std::collections::BTreeMap;
use std::fs;

use http::Request;
use serde::Deserialize;

use super::*;
use crate::harness::binary;

const RESOURCE: &str = "/apis/destination.connectivity.api.sap/v1";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

#[derive(Deserialize)]
struct Recorded {
    manifests: BTreeMap<String, Verdict>,
    /// Name and type of each column.
    columns: Vec<String>,
    /// What the columns show, without the age.
    cells: BTreeMap<String, Vec<Value>>,
    resources: Value,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Verdict {
    code: u16,
    /// Field and reason of each refusal.
    #[serde(default)]
    causes: Vec<String>,
    /// Where the definition has a text of its own.
    message: Option<String>,
    /// As it is stored then.
    object: Option<Value>,
}

fn recorded() -> Recorded {
    let path = binary::tests_folder().join("data/manifests/verdicts.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn manifest(name: &str) -> String {
    let path = binary::tests_folder().join(format!("data/manifests/{name}.yaml"));
    fs::read_to_string(path).unwrap()
}

struct Cluster {
    client: Client,
    destinations: String,
}

impl Cluster {
    async fn new() -> Self {
        let server = ApiServer::shared().await;
        server.define(&definition()).await;
        let namespace = server.namespace("verdicts").await;
        Self {
            client: server.client().await,
            destinations: format!("{RESOURCE}/namespaces/{namespace}/destinations"),
        }
    }

    async fn ask(&self, request: http::request::Builder, body: String) -> kube::Result<Value> {
        let request = request
            .header("content-type", "application/yaml")
            .body(body.into_bytes())
            .unwrap();
        let text = self.client.request_text(request).await?;
        Ok(serde_json::from_str(&text).expect("JSON"))
    }

    async fn get(&self, path: &str, accept: &str) -> Value {
        let request = Request::get(path).header("accept", accept);
        self.ask(request, String::new()).await.unwrap()
    }

    /// Creates it, and where it has a status, writes that too.
    async fn apply(&self, name: &str) -> kube::Result<Value> {
        let text = manifest(name);
        let created = self.ask(Request::post(&self.destinations), text.clone()).await?;
        if !text.contains("\nstatus:\n") {
            return Ok(created);
        }
        let version = created["metadata"]["resourceVersion"].as_str().unwrap();
        let text = text.replacen(
            "metadata:\n",
            &format!("metadata:\n  resourceVersion: \"{version}\"\n"),
            1,
        );
        let status = format!("{}/{name}/status", self.destinations);
        self.ask(Request::put(status), text).await
    }

    async fn verdict(&self, name: &str) -> Verdict {
        match self.apply(name).await {
            Ok(object) => Verdict {
                code: 200,
                causes: Vec::new(),
                message: None,
                object: Some(told(object)),
            },
            Err(kube::Error::Api(status)) => {
                let causes = status.details.map(|details| details.causes).unwrap_or_default();
                let mut causes: Vec<String> = causes
                    .into_iter()
                    .map(|cause| format!("{}: {}", cause.field, cause.reason))
                    .collect();
                causes.sort();
                Verdict {
                    code: status.code,
                    causes,
                    message: Some(status.message),
                    object: None,
                }
            }
            Err(other) => panic!("{name}: {other}"),
        }
    }
}

/// Without what every object is given.
fn told(mut object: Value) -> Value {
    let fields = object.as_object_mut().unwrap();
    fields.remove("apiVersion");
    fields.remove("kind");
    let metadata = fields["metadata"].as_object_mut().unwrap();
    metadata.retain(|key, _| ["name", "labels", "annotations"].contains(&key.as_str()));
    object
}

#[tokio::test]
async fn manifests_get_the_verdict_and_the_defaults_that_users_know() {
    let cluster = Cluster::new().await;
    let recorded = recorded();
    assert!(recorded.manifests.len() >= 60, "{}", recorded.manifests.len());
    for (name, expected) in &recorded.manifests {
        let mut verdict = cluster.verdict(name).await;
        verdict.causes.sort();
        if expected.message.is_none() {
            verdict.message = None;
        }
        let mut causes = expected.causes.clone();
        causes.sort();
        assert_eq!(
            (&verdict.code, &verdict.causes, &verdict.message, &verdict.object),
            (&expected.code, &causes, &expected.message, &expected.object),
            "{name}"
        );
    }
    for (name, cells) in &recorded.cells {
        let path = format!("{}/{name}", cluster.destinations);
        let table = cluster.get(&path, TABLE).await;
        let columns: Vec<String> = table["columnDefinitions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|column| {
                format!(
                    "{} {}",
                    column["name"].as_str().unwrap(),
                    column["type"].as_str().unwrap()
                )
            })
            .collect();
        assert_eq!(columns, recorded.columns);
        let mut shown = table["rows"][0]["cells"].as_array().unwrap().clone();
        let age = columns
            .iter()
            .position(|column| column.starts_with("Age"))
            .unwrap();
        shown.remove(age);
        assert_eq!(&shown, cells, "{name}");
    }
}

#[tokio::test]
async fn the_resource_has_the_names_and_verbs_that_users_know() {
    let cluster = Cluster::new().await;
    let recorded = recorded();
    let list = cluster.get(RESOURCE, "application/json").await;
    let known = [
        "name",
        "singularName",
        "namespaced",
        "kind",
        "verbs",
        "shortNames",
    ];
    let mut resources = list["resources"].clone();
    for resource in resources.as_array_mut().unwrap() {
        resource
            .as_object_mut()
            .unwrap()
            .retain(|key, _| known.contains(&key.as_str()));
    }
    assert_eq!(resources, recorded.resources);
}

#[test]
fn every_manifest_has_a_verdict() {
    let folder = binary::tests_folder().join("data/manifests");
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    let recorded = recorded();
    assert_eq!(names, recorded.manifests.into_keys().collect::<Vec<_>>());
}
