//! The manifests that the book points to are good destinations.

use std::fs;

use super::*;
use crate::resolve::source::document::{Entry, Node};
use crate::resolve::source::files::yaml;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/kubernetes");

fn map(node: Node) -> Vec<Entry> {
    match node {
        Node::Map(entries) => entries,
        _ => panic!("not a mapping"),
    }
}

fn part(entries: &mut Vec<Entry>, key: &str) -> Option<Node> {
    let place = entries.iter().position(|entry| entry.key.value == key)?;
    Some(entries.remove(place).value.value)
}

fn texts(node: Option<Node>) -> Vec<(String, String)> {
    let text = |entry: Entry| match entry.value.value {
        Node::Text(text) => (entry.key.value, text.to_string()),
        _ => panic!("{} is no text", entry.key.value),
    };
    node.map(map).unwrap_or_default().into_iter().map(text).collect()
}

/// What the API server makes of a manifest; `None` if it is no Secret.
fn applied(manifest: Node) -> Option<Given> {
    let mut manifest = map(manifest);
    let Some(Node::Text(kind)) = part(&mut manifest, "kind") else {
        panic!("no kind");
    };
    if *kind != "Secret" {
        return None;
    }
    let mut metadata = map(part(&mut manifest, "metadata")?);
    let Some(Node::Text(name)) = part(&mut metadata, "name") else {
        panic!("no name");
    };
    let mut given = secret(&name).without_label();
    given.0.metadata.labels = Some(texts(part(&mut metadata, "labels")).into_iter().collect());
    for (annotation, value) in texts(part(&mut metadata, "annotations")) {
        given = given.annotated(&annotation, &value);
    }
    let data = texts(part(&mut manifest, "stringData"));
    Some(
        data.iter()
            .fold(given, |given, (key, value)| given.with(key, value)),
    )
}

fn secrets(yaml: &str) -> Vec<Given> {
    let manifests = yaml::parse(yaml).unwrap_or_else(|error| panic!("{error:?}"));
    manifests
        .into_iter()
        .filter_map(|manifest| applied(manifest.value))
        .collect()
}

/// The Secrets of all manifests.
fn examples() -> Vec<Given> {
    let files = fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().path());
    let manifests = files.filter(|path| !path.to_str().unwrap().contains("/values"));
    manifests
        .flat_map(|path| secrets(&fs::read_to_string(path).unwrap()))
        .map(|secret| secret.namespace(INSTALLATION))
        .collect()
}

#[test]
fn the_examples_are_good_destinations() {
    let (_writer, reader) = loaded(examples());
    assert_eq!(reader.reports(), []);
    for name in ["my-dest", "orders-db", "catalog"] {
        assert_eq!(found(&reader, name).warnings, []);
    }
    assert!(find_for(&reader, "payroll", "hr").is_ok());
    assert_eq!(find(&reader, "payroll"), Err(FindError::NotFound));
}
