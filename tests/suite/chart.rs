//! The Helm chart, by the real helm: what it makes of values, what it refuses, how it comes and goes.

mod checks;
mod helm;
mod known;
mod lifecycle;
mod nulls;
mod objects;
mod readme;
mod rendering;
mod security;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;

use helm::Rendered;

/// The value sets that are supported, as files: each has a snapshot and passes every test.
const VALUE_SETS: &[&str] = &[
    "default",
    "everything",
    "metrics",
    "no-fallback",
    "nothing-but-services",
    "without-hook",
];

fn chart() -> PathBuf {
    repository().join("charts/transparent-proxy")
}

fn repository() -> PathBuf {
    let tests = crate::harness::binary::tests_folder();
    tests.parent().expect("the repository").to_owned()
}

/// YAML.
fn values(set: &str) -> String {
    let file = crate::harness::binary::tests_folder().join(format!("suite/chart/values/{set}.yaml"));
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Each is rendered once for all tests.
fn rendered(set: &str) -> &'static Rendered {
    static RENDERED: OnceLock<BTreeMap<&str, Rendered>> = OnceLock::new();
    let render = |set| helm::template(&values(set)).unwrap_or_else(|error| panic!("{set}: {error}"));
    let all = RENDERED.get_or_init(|| VALUE_SETS.iter().map(|set| (*set, render(set))).collect());
    &all[set]
}
