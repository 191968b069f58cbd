//! No secret may show up in a log. All secrets of the end-to-end tests
//! contain a marker, so a search for it is enough.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::summary::Summary;

/// The marker in pieces, then what is left of it in base64 (`Basic …`) when
/// it starts at a multiple of three bytes, one after, two after.
const MARKERS: [&str; 4] = [concat!("s3cr", "3t-"), "czNjcjN0L", "MzY3IzdC", "zM2NyM3Qt"];

/// Counts as one test. `required`: the tests that write logs did run, so no
/// log at all would mean that the search looks in the wrong place.
pub(super) fn check(folder: &Path, required: bool) -> Result<Summary> {
    let files = files(folder)?;
    let mut leaks = Vec::new();
    let mut bytes = 0;
    for file in &files {
        let text = fs::read(file).with_context(|| format!("{} can be read", file.display()))?;
        bytes += text.len();
        let text = String::from_utf8_lossy(&text);
        let lines = text.lines().zip(1..).filter(|(line, _)| leaks_secret(line));
        leaks.extend(lines.map(|(_, number): (_, usize)| format!("{}:{number}", file.display())));
    }
    println!("    searched {} log(s), {} kB", files.len(), bytes / 1024);
    for leak in &leaks {
        println!("    a secret of the tests is in {leak}");
    }
    let silent = required && bytes == 0;
    if silent {
        println!(
            "    the end-to-end tests left no logs to search in {}",
            folder.display()
        );
    }
    Ok(if leaks.is_empty() && !silent {
        Summary {
            passed: 1,
            ..Summary::default()
        }
    } else {
        Summary {
            failed: 1,
            ..Summary::default()
        }
    })
}

fn leaks_secret(line: &str) -> bool {
    MARKERS.iter().any(|marker| line.contains(marker))
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("{} can be listed", folder.display()))? {
        let path = entry.context("an entry can be read")?.path();
        if path.is_dir() {
            files.extend(self::files(&path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("proxy.log"), text).expect("written");
        folder
    }

    #[test]
    fn a_secret_in_plain_text_is_found() {
        let folder = log(&format!("fine\npassword={}basic\n", MARKERS[0]));
        assert_eq!(check(folder.path(), true).expect("searched").failed, 1);
    }

    #[test]
    fn a_secret_in_a_basic_header_is_found_at_every_alignment() {
        // base64 of u:, us:, usr: followed by the marker and `x`.
        for header in ["dTpzM2NyM3QteA==", "dXM6czNjcjN0LXg=", "dXNyOnMzY3IzdC14"] {
            assert!(
                leaks_secret(&format!("authorization: Basic {header}")),
                "{header}"
            );
        }
    }

    #[test]
    fn clean_logs_pass() {
        assert_eq!(
            check(log("request done status=200\n").path(), true)
                .expect("searched")
                .passed,
            1
        );
    }

    #[test]
    fn no_logs_at_all_are_suspicious_only_when_all_tests_ran() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(check(folder.path(), true).expect("searched").failed, 1);
        assert_eq!(check(folder.path(), false).expect("searched").failed, 0);
    }
}
