//! Under which terms everything in the image may be passed on: most of them want their text beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::layer::Layer;
use super::libraries;
use super::packages::{Packages, folder, text};
use crate::{shell, workspace};

const FOLDER: &str = "/usr/share/doc/transparent-proxy";
/// How the names of files with terms begin.
const TERMS: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE"];
/// Owns no file of the image: what is copied is made at its installation.
const AUTHORITIES: &str = "ca-certificates";

pub(super) fn add(layer: &mut Layer, packages: &Packages, program: &Path) -> Result<()> {
    layer
        .copy(&workspace::root().join("LICENSE"), &format!("{FOLDER}/LICENSE"))?
        .text(&format!("{FOLDER}/THIRD-PARTY"), &third_party(packages)?);
    for package in of_the_system(program)? {
        // Where Debian has them and scanners look.
        let file = format!("/usr/share/doc/{package}/copyright");
        if Path::new(&file).exists() {
            layer.copy(Path::new(&file), &file)?;
        }
    }
    Ok(())
}

/// Each text once, below the names of all packages that have it.
fn third_party(packages: &Packages) -> Result<String> {
    let mut titles: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages.third_party()? {
        let mut terms = terms(folder(package)?)?;
        if terms.is_empty() {
            terms.push("(No text is beside its source.)\n".to_owned());
        }
        for terms in terms {
            titles.entry(terms).or_default().insert(title(package));
        }
    }
    Ok(joined(titles))
}

/// `tokio 1.52.0 (MIT)`
fn title(package: &Value) -> String {
    let license = package["license"].as_str().unwrap_or("see the text");
    format!(
        "{} {} ({license})",
        text(&package["name"]),
        text(&package["version"])
    )
}

/// Texts of a package, in the order of their files.
fn terms(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("{} can be listed", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.is_file() && has_terms(file));
    files.sort();
    let read = |file: &PathBuf| {
        let content = fs::read(file).with_context(|| format!("{} can be read", file.display()))?;
        Ok(String::from_utf8_lossy(&content).into_owned())
    };
    files.iter().map(read).collect()
}

fn has_terms(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let name = name.to_ascii_uppercase();
    TERMS.iter().any(|begin| name.starts_with(begin)) || name == "UNLICENSE"
}

/// Ordered by the first name of each.
fn joined(titles: BTreeMap<String, BTreeSet<String>>) -> String {
    let mut parts: Vec<_> = titles
        .into_iter()
        .map(|(terms, titles)| (titles, terms))
        .collect();
    parts.sort();
    let mut all = String::new();
    for (titles, terms) in parts {
        for title in titles {
            writeln!(all, "{title}").expect("a string takes everything");
        }
        writeln!(all, "\n{}\n\n{}\n", terms.trim_end(), "-".repeat(80)).expect("a string takes everything");
    }
    all
}

/// Debian's packages of which something is in the image; none on other systems.
fn of_the_system(program: &Path) -> Result<BTreeSet<String>> {
    let mut packages = BTreeSet::from([AUTHORITIES.to_owned()]);
    if shell::find("dpkg-query").is_some() {
        packages.extend(libraries::of(program, &[])?.iter().filter_map(|file| owner(file)));
    }
    Ok(packages)
}

/// Its database has some files where they were before `/lib` became a link to `/usr/lib`.
fn owner(file: &Path) -> Option<String> {
    let file = file.display().to_string();
    let elsewhere = format!("/usr{file}");
    let found = [file, elsewhere].iter().find_map(|file| {
        let mut query = Command::new("dpkg-query");
        shell::output(query.arg("--search").arg(file)).ok()
    })?;
    package(&found).map(str::to_owned)
}

/// `libc6:amd64: /lib/x86_64-linux-gnu/libc.so.6`
fn package(found: &str) -> Option<&str> {
    found.split([':', ',']).next().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_told_by_the_names_of_their_files() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["LICENSE-MIT", "License-APACHE", "COPYING", "README.md", "src.rs"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        fs::create_dir(folder.path().join("LICENSES")).unwrap();
        let found = terms(folder.path()).unwrap();
        assert_eq!(found, ["COPYING", "LICENSE-MIT", "License-APACHE"]);
    }

    #[test]
    fn a_text_that_many_have_is_there_once() {
        let titles = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let texts = BTreeMap::from([
            ("Apache".to_owned(), titles(&["c 1"])),
            ("MIT".to_owned(), titles(&["b 1", "a 1"])),
        ]);
        let line = "-".repeat(80);
        assert_eq!(
            joined(texts),
            format!("a 1\nb 1\n\nMIT\n\n{line}\n\nc 1\n\nApache\n\n{line}\n\n")
        );
    }

    #[test]
    fn packages_of_the_system_are_named_without_architecture() {
        assert_eq!(package("libc6:amd64: /lib/libc.so.6\n"), Some("libc6"));
        assert_eq!(package("base-files: /etc/x\n"), Some("base-files"));
    }
}
