//! Whether files of users still work: the values that they may have, and those that the documentation shows.

use std::fs;

use serde_json::Value;

use super::helm::template;
use super::objects::Object;
use super::{chart, repository};

/// Every key of an instance of the Destination service.
const INSTANCE: &str = "
config:
  integration:
    destinationService:
      defaultInstanceName: main
      instances:
        - name: main
          serviceCredentials:
            secretName: destination-service-key
            secretKey: key.json
            secretNamespace: platform
            privateKey:
              secretName: x509-svc-key-private-key
              secretInternalKey: pk.pem
              secretNamespace: platform
          associateWith:
            connectivityProxy:
              locallyConfiguredRegionId: cf-eu10
        - name: other
          serviceCredentials:
            secretName: other-key
            secretKey: key.json
            secretData: e30=
";

/// `a.b[].c`
fn is_known(schema: &Value, path: &str) -> bool {
    let step = |at: &Value, part: &str| {
        let found = &resolved(schema, at)["properties"][part.trim_end_matches("[]")];
        let items = part.ends_with("[]").then(|| &found["items"]);
        items.unwrap_or(found).clone()
    };
    let found = path.split('.').fold(schema.clone(), |at, part| step(&at, part));
    !found.is_null()
}

fn resolved<'a>(schema: &'a Value, at: &'a Value) -> &'a Value {
    match at["$ref"].as_str() {
        Some(name) => &schema["definitions"][name.rsplit('/').next().expect("a name")],
        None => at,
    }
}

/// The other tests compare `values.yaml` with the schema, so what both lost would not be noticed.
#[test]
fn every_value_that_files_may_have_is_known() {
    let schema = fs::read_to_string(chart().join("values.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let list = fs::read_to_string(repository().join("tests/data/values-of-the-chart.txt")).unwrap();
    let paths: Vec<_> = list.lines().filter(|line| !line.starts_with('#')).collect();
    let unknown: Vec<_> = paths.iter().filter(|path| !is_known(&schema, path)).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
    assert!(paths.len() > 100, "{}", paths.len());
}

#[test]
fn an_instance_with_every_key_is_refused_for_coming_later_only() {
    let complaint = template(INSTANCE).err().expect("refused");
    let complaints: Vec<_> = complaint.lines().filter(|line| line.starts_with("- ")).collect();
    assert_eq!(
        complaints,
        ["- config.integration.destinationService.instances is not supported yet: leave it at []"],
        "{complaint}"
    );
}

/// Of `examples/kubernetes`, with their texts.
fn examples() -> Vec<(String, String)> {
    let folder = repository().join("examples/kubernetes");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let read = |file: fs::DirEntry| {
        let name = file.file_name().to_string_lossy().into_owned();
        (name, fs::read_to_string(file.path()).unwrap())
    };
    files.map(read).collect()
}

#[test]
fn the_chart_takes_the_values_of_every_example() {
    let mut examples = examples();
    examples.retain(|(name, _)| name.starts_with("values"));
    assert!(examples.len() >= 3);
    for (name, values) in examples {
        template(&values).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn kubernetes_knows_every_field_of_the_examples() {
    let manifests = examples().into_iter();
    for (name, text) in manifests.filter(|(name, _)| !name.starts_with("values")) {
        let objects: Vec<Value> =
            serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let builtin = objects
            .into_iter()
            .filter(|object| object["kind"] != "Destination");
        for object in builtin.map(Object::new) {
            let read = object.as_kubernetes_reads_it();
            assert_eq!(object.json, read, "{name}: {}", object.id());
        }
    }
}
