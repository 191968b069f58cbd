//! What cargo knows of the proxy, and of all that is linked into it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::shell::{cargo, output};

const PROXY: &str = "transparent-proxy";

pub(super) struct Packages(Value);

impl Packages {
    pub(super) fn read() -> Result<Self> {
        let mut metadata = cargo();
        metadata
            .args(["metadata", "--format-version", "1", "--locked"])
            .args(["--filter-platform", &host()?]);
        let metadata = output(&mut metadata)?;
        serde_json::from_str(&metadata)
            .context("cargo writes JSON")
            .map(Self)
    }

    pub(super) fn proxy(&self) -> Result<&Value> {
        let mut packages = self.all();
        packages
            .find(|package| package["name"] == PROXY)
            .context("the workspace has the proxy")
    }

    /// By others, in the order of their names.
    pub(super) fn third_party(&self) -> Result<Vec<&Value>> {
        let linked = self.linked(text(&self.proxy()?["id"]));
        let mut packages: Vec<&Value> = self
            .all()
            .filter(|package| !package["source"].is_null() && linked.contains(text(&package["id"])))
            .collect();
        packages.sort_by_key(|package| [text(&package["name"]), text(&package["version"])]);
        Ok(packages)
    }

    fn all(&self) -> impl Iterator<Item = &Value> {
        self.0["packages"].as_array().into_iter().flatten()
    }

    /// Ids of what a package needs in the end, without what only its build and tests need.
    fn linked<'a>(&'a self, root: &'a str) -> BTreeSet<&'a str> {
        let nodes = self.0["resolve"]["nodes"].as_array().into_iter().flatten();
        let nodes: BTreeMap<&str, &Value> = nodes.map(|node| (text(&node["id"]), node)).collect();
        let mut found = BTreeSet::new();
        let mut open = vec![root];
        while let Some(id) = open.pop() {
            if found.insert(id) {
                let dependencies = nodes.get(id).and_then(|node| node["deps"].as_array());
                let linked = dependencies.into_iter().flatten().filter(|one| is_linked(one));
                open.extend(linked.map(|dependency| text(&dependency["pkg"])));
            }
        }
        found
    }
}

/// `kind` is null for the ordinary ones, else `build` or `dev`.
fn is_linked(dependency: &Value) -> bool {
    let kinds = dependency["dep_kinds"].as_array();
    kinds.is_none_or(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()))
}

/// Empty for what is not there.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(super) fn folder(package: &Value) -> Result<&Path> {
    let manifest = Path::new(text(&package["manifest_path"]));
    manifest.parent().context("a package has a folder")
}

/// As rustc calls this machine.
fn host() -> Result<String> {
    let version = output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc says its host")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_linked_is_third_party_but_neither_tools_of_the_build_nor_members() {
        let dependency = |id: &str, kind: Value| json!({ "pkg": id, "dep_kinds": [{ "kind": kind }] });
        let package =
            |id: &str, source: Value| json!({ "id": id, "name": id, "version": "1.0.0", "source": source });
        let packages = Packages(json!({
            "packages": [
                package(PROXY, Value::Null),
                package("zlib", json!("registry")),
                package("member", Value::Null),
                package("deep", json!("registry")),
                package("builder", json!("registry")),
            ],
            "resolve": { "nodes": [
                { "id": PROXY, "deps": [
                    dependency("zlib", Value::Null),
                    dependency("member", Value::Null),
                    dependency("builder", json!("build")),
                ] },
                { "id": "member", "deps": [dependency("deep", Value::Null)] },
            ] },
        }));
        let names: Vec<&str> = packages
            .third_party()
            .unwrap()
            .into_iter()
            .map(|package| text(&package["name"]))
            .collect();
        assert_eq!(names, ["deep", "zlib"]);
    }
}
