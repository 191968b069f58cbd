mod events;
mod examples;
mod forms;
mod names;
mod secrecy;
mod snapshots;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;

use super::{FindError, Query, Reader, Writer, store};
use crate::api::labels;
use crate::resolve::destination::{Destination, HttpDestination, Protocol};

const INSTALLATION: &str = "proxy";

/// A labelled Secret of the installation namespace.
#[derive(Clone)]
struct Given(Secret);

fn secret(name: &str) -> Given {
    let label = (labels::DESTINATION.to_owned(), "true".to_owned());
    Given(Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(INSTALLATION.to_owned()),
            uid: Some(format!("uid of {name}")),
            resource_version: Some("1".to_owned()),
            creation_timestamp: Some(at(0)),
            labels: Some(BTreeMap::from([label])),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::new()),
        ..Secret::default()
    })
}

fn at(second: i64) -> Time {
    Time(Timestamp::from_second(1_700_000_000 + second).unwrap())
}

/// One with the least that an HTTP destination needs.
fn http(name: &str, host: &str) -> Given {
    let url = format!("https://{host}");
    secret(name).with("Type", "HTTP").with("URL", &url)
}

impl Given {
    fn with(self, key: &str, value: &str) -> Self {
        self.with_bytes(key, value.as_bytes())
    }

    fn with_bytes(mut self, key: &str, value: &[u8]) -> Self {
        let data = self.0.data.get_or_insert_default();
        data.insert(key.to_owned(), ByteString(value.to_vec()));
        self
    }

    fn json(self, text: &str) -> Self {
        self.with("destination.json", text)
    }

    fn version(mut self, version: u32) -> Self {
        self.0.metadata.resource_version = Some(version.to_string());
        self
    }

    fn uid(mut self, uid: &str) -> Self {
        self.0.metadata.uid = Some(uid.to_owned());
        self
    }

    fn created(mut self, second: i64) -> Self {
        self.0.metadata.creation_timestamp = Some(at(second));
        self
    }

    fn namespace(mut self, namespace: &str) -> Self {
        self.0.metadata.namespace = Some(namespace.to_owned());
        self
    }

    fn annotated(mut self, annotation: &str, value: &str) -> Self {
        let annotations = self.0.metadata.annotations.get_or_insert_default();
        annotations.insert(annotation.to_owned(), value.to_owned());
        self
    }

    fn allowing(self, namespaces: &str) -> Self {
        self.annotated(labels::ALLOWED_NAMESPACES, namespaces)
    }

    fn without_label(mut self) -> Self {
        self.0.metadata.labels = None;
        self
    }
}

/// A store that was told of these Secrets by the list of the installation namespace.
fn loaded(secrets: impl IntoIterator<Item = Given>) -> (Writer, Reader) {
    let (mut writer, reader) = store([INSTALLATION.to_owned()]);
    list(&mut writer, INSTALLATION, secrets);
    (writer, reader)
}

fn list(writer: &mut Writer, namespace: &str, secrets: impl IntoIterator<Item = Given>) {
    writer.init(namespace);
    secrets.into_iter().for_each(|secret| writer.init_apply(secret.0));
    writer.init_done(namespace);
}

fn find(reader: &Reader, destination: &str) -> Result<Arc<Destination>, FindError> {
    find_for(reader, destination, "shop")
}

fn find_for(reader: &Reader, destination: &str, cr_namespace: &str) -> Result<Arc<Destination>, FindError> {
    reader.find(&Query {
        destination,
        cr_namespace,
    })
}

fn found(reader: &Reader, destination: &str) -> Arc<Destination> {
    find(reader, destination).unwrap_or_else(|error| panic!("{destination}: {error}"))
}

fn http_of(destination: &Destination) -> &HttpDestination {
    match &destination.protocol {
        Protocol::Http(http) => http,
        Protocol::Tcp(_) => panic!("{} is not HTTP", destination.name),
    }
}

fn host(reader: &Reader, destination: &str) -> String {
    http_of(&found(reader, destination)).url.host.clone()
}

/// What is wrong with the one Secret, in the order of the problems.
fn problems(secret: Given) -> Vec<String> {
    let name = secret.0.metadata.name.clone().unwrap();
    let (_writer, reader) = loaded([secret]);
    match find(&reader, &name) {
        Err(FindError::Invalid(refused)) => refused.problems.iter().map(ToString::to_string).collect(),
        other => panic!("{name} should be refused: {other:?}"),
    }
}

fn warnings(secret: Given) -> Vec<String> {
    let name = secret.0.metadata.name.clone().unwrap();
    let (_writer, reader) = loaded([secret]);
    let warnings = &found(&reader, &name).warnings;
    warnings.iter().map(ToString::to_string).collect()
}
