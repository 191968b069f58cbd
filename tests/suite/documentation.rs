//! What the pages for users say is there: quoted files, links, fields, reasons, values of the chart.

mod fields;
mod metrics;
mod page;
mod values;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use transparent_proxy::api::condition::Reason;
use transparent_proxy::api::destination::Destination;

use self::page::{Block, Page};

const EXAMPLES: &str = "examples/kubernetes";

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Paths of the files in a folder of the repository, and below it.
fn files(folder: &str, extension: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

fn pages() -> Vec<Page> {
    let mut paths = files("docs", "md");
    paths.extend(files("charts", "md"));
    for page in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
        "tests/README.md",
    ] {
        paths.push(page.to_owned());
    }
    paths.into_iter().map(Page::read).collect()
}

/// The documents of an example.
fn documents(path: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every Destination of the examples, with the file that it is in.
fn destinations() -> Vec<(String, Value)> {
    let of = |path: String| {
        let all = documents(&path).into_iter();
        all.filter(|one| one["kind"] == "Destination")
            .map(move |one| (path.clone(), one))
    };
    files(EXAMPLES, "yaml").into_iter().flat_map(of).collect()
}

fn assert_none<T: std::fmt::Display>(what: &str, problems: impl IntoIterator<Item = T>) {
    let problems: Vec<String> = problems.into_iter().map(|problem| problem.to_string()).collect();
    assert!(problems.is_empty(), "{what}:\n{}", problems.join("\n"));
}

/// With `UPDATE_EXPECT=1` in its environment it writes the files into the pages instead.
#[test]
fn files_are_quoted_as_they_are() {
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut wrong = Vec::new();
    for page in pages() {
        let stale = page.blocks().into_iter().filter(Block::is_stale).count();
        if stale > 0 && update {
            fs::write(root().join(&page.path), page.requoted()).unwrap();
        } else if stale > 0 {
            wrong.push(page.path);
        }
    }
    assert_none(
        "pages that quote something else than the file; UPDATE_EXPECT=1 cargo test -p tests documentation:: writes them",
        wrong,
    );
}

#[test]
fn every_manifest_on_a_page_is_a_file_that_can_be_applied() {
    let pages = pages();
    let unquoted = pages.iter().flat_map(|page| {
        let manifests = page.blocks().into_iter();
        let unquoted =
            manifests.filter(|block| block.content.contains("apiVersion:") && block.quotes.is_none());
        unquoted.map(|block| format!("{}:{}", page.path, block.line))
    });
    assert_none("manifests that are not quoted from a file", unquoted);
}

#[test]
fn every_example_is_named_on_a_page() {
    let pages = pages();
    let unnamed = files(EXAMPLES, "yaml").into_iter();
    let unnamed = unnamed.filter(|path| !pages.iter().any(|page| page.text.contains(path.as_str())));
    assert_none("examples that no page names", unnamed);
}

/// What serde drops or adds on the way is a field that is spelled wrongly.
#[test]
fn every_destination_of_the_examples_is_understood_completely() {
    let destinations = destinations();
    assert!(!destinations.is_empty());
    for (path, manifest) in destinations {
        let read: Destination =
            serde_json::from_value(manifest.clone()).unwrap_or_else(|error| panic!("{path}: {error}"));
        let written = serde_json::to_value(&read.spec).unwrap();
        assert_eq!(written, manifest["spec"], "{path}");
        assert_eq!(
            manifest["apiVersion"], "destination.connectivity.api.sap/v1",
            "{path}"
        );
    }
}

#[test]
fn every_field_of_a_destination_has_an_example() {
    let used: Vec<String> = destinations()
        .iter()
        .flat_map(|(_, manifest)| fields::of_value(&manifest["spec"]))
        .collect();
    let missing = fields::of_definition()
        .into_iter()
        .filter(|field| !used.contains(field));
    assert_none("fields that no example sets", missing);
}

#[test]
fn every_reason_of_the_condition_is_explained() {
    let page = read("docs/kubernetes/destination-resource.md");
    let missing = Reason::ALL.iter().map(|reason| reason.as_str());
    let missing = missing.filter(|reason| !page.contains(&format!("`{reason}`")));
    assert_none("reasons that the page does not name", missing);
}

#[test]
fn metrics_that_pages_name_are_registered() {
    let registered = metrics::registered();
    let pages = pages();
    let unknown = pages.iter().flat_map(|page| {
        let unknown = metrics::named_on(page).filter(|(_, name)| !registered.contains(*name));
        unknown.map(|(metric, _)| format!("{}: {metric}", page.path))
    });
    assert_none("metrics that nobody registers", unknown);
}

#[test]
fn every_metric_is_explained() {
    let page = Page::read("docs/kubernetes/operations.md".to_owned());
    let named: Vec<_> = metrics::named_on(&page).map(|(_, name)| name).collect();
    let registered = metrics::registered();
    assert!(registered.len() > 30, "they are found: {registered:?}");
    let missing = registered.iter().filter(|name| !named.contains(&name.as_str()));
    assert_none("metrics that the page does not name", missing);
}

#[test]
fn rows_of_tables_are_lines() {
    let pages = pages();
    let broken = pages.iter().flat_map(|page| {
        let rows = page.prose().filter(|line| line.starts_with('|'));
        let broken = rows.filter(|row| !row.ends_with('|'));
        broken.map(|row| format!("{}: {row}", page.path))
    });
    assert_none("rows that do not end", broken);
}

#[test]
fn links_lead_somewhere() {
    let pages = pages();
    let broken = pages.iter().flat_map(|page| {
        let links = page.links().into_iter();
        let broken = links.filter(|link| !page.leads_somewhere(link));
        broken.map(|link| format!("{}: {link}", page.path))
    });
    assert_none("broken links", broken);
}

#[test]
fn values_that_pages_name_are_values_of_the_chart() {
    let chart = values::of_chart();
    let pages = pages();
    let unknown = pages.iter().flat_map(|page| {
        let named = values::named_on(page).into_iter();
        let unknown = named.filter(|key| values::at(&chart, key).is_none());
        unknown.map(|key| format!("{}: {key}", page.path))
    });
    assert_none("values that the chart does not have", unknown);
}

#[test]
fn values_of_the_examples_are_values_of_the_chart() {
    let chart = values::of_chart();
    let examples = files(EXAMPLES, "yaml")
        .into_iter()
        .filter(|path| path.contains("/values"));
    let unknown = examples.flat_map(|path| {
        let keys = documents(&path)
            .iter()
            .flat_map(fields::of_value)
            .collect::<Vec<_>>();
        let unknown = keys.into_iter().filter(|key| values::at(&chart, key).is_none());
        unknown.map(|key| format!("{path}: {key}")).collect::<Vec<_>>()
    });
    assert_none("values that the chart does not have", unknown);
}
