//! Words that must not get into the repository: paths of somebody's machine,
//! and hosts of package registries and their mirrors (where packages come
//! from is the configuration of the machine that builds).

use std::fs;
use std::process::Command;

use anyhow::{Result, bail};

use crate::shell::output;
use crate::workspace;

/// In pieces, so that this file passes its own check.
const PATHS: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("../sh", "ared"),
    concat!("/ro", "ot/."),
    concat!("/Us", "ers/"),
];

/// Labels of host names that stand for a registry or a mirror of one.
const REGISTRY_LABELS: &[&str] = &[
    "deb",
    "index",
    "mirror",
    "mirrors",
    "npmjs",
    "pypi",
    "pythonhosted",
    "registry",
];

/// Written by tools that put addresses into them.
const GENERATED: &[&str] = &["Cargo.lock", "package-lock.json", "go.sum"];

pub(super) fn check() -> Result<()> {
    let root = workspace::root();
    let listed = output(Command::new("git").args(["ls-files", "-z"]).current_dir(root))?;
    let files = listed
        .split('\0')
        .filter(|file| !file.is_empty() && !is_generated(file));
    let mut findings = Vec::new();
    for file in files {
        // Binary files and files just deleted have no text to read.
        let Ok(text) = fs::read_to_string(root.join(file)) else {
            continue;
        };
        findings.extend(
            text.lines()
                .zip(1..)
                .filter_map(|(line, number)| Some(format!("{file}:{number}: {}", complaint(line)?))),
        );
    }
    if findings.is_empty() {
        return Ok(());
    }
    bail!(
        "{}\n{} line(s) name a machine's paths or a registry's host",
        findings.join("\n"),
        findings.len()
    )
}

fn is_generated(file: &str) -> bool {
    GENERATED
        .iter()
        .any(|name| file == *name || file.ends_with(&format!("/{name}")))
}

fn complaint(line: &str) -> Option<String> {
    if let Some(path) = PATHS.iter().find(|path| line.contains(**path)) {
        return Some(format!("contains {path:?}"));
    }
    hosts(line)
        .find(|host| is_registry(host))
        .map(|host| format!("names the host {host:?}"))
}

fn hosts(line: &str) -> impl Iterator<Item = &str> {
    line.split("://").skip(1).map(|rest| {
        let end = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '-')
            .unwrap_or(rest.len());
        &rest[..end]
    })
}

fn is_registry(host: &str) -> bool {
    // Reserved names (RFC 6761) are examples.
    host.rsplit('.').next() != Some("test") && host.split('.').any(|label| REGISTRY_LABELS.contains(&label))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_a_machine_is_found() {
        let line = format!("see {}main for it", PATHS[0]);
        assert!(complaint(&line).is_some());
    }

    #[test]
    fn the_host_of_a_registry_is_found() {
        assert_eq!(
            complaint("https:\u{2f}/registry.example.org/x").as_deref(),
            Some("names the host \"registry.example.org\"")
        );
    }

    #[test]
    fn ordinary_links_pass() {
        assert_eq!(
            complaint("https://www.rfc-editor.org/rfc/rfc9110#section-7.6"),
            None
        );
        assert_eq!(complaint("the network/ and framework/ folders"), None);
    }
}
