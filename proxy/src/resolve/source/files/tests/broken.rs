//! Every broken file of the corpus has its exact messages in a snapshot.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use super::super::{FileSource, Snapshot};
use super::{MARKER, closed_folder, environment};

const CORPUS: &str = "../tests/data/broken-destinations";

fn messages(snapshot: &Snapshot, folder: &Path) -> String {
    let mut text = String::new();
    for problem in snapshot.all_problems() {
        writeln!(text, "error: {problem}").unwrap();
    }
    for loaded in &snapshot.destinations {
        for (place, warning) in &loaded.warnings {
            writeln!(text, "warning: {place}: {}: {warning}", loaded.name).unwrap();
        }
    }
    text.replace(&format!("{}/", folder.display()), "")
}

/// A copy, since the modes of the originals are up to whoever checked them out.
fn copy(folder: &Path) {
    for file in fs::read_dir(CORPUS).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), folder.join(file.file_name())).unwrap();
    }
}

fn corpus(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap();
    let files = files.map(|file| file.unwrap().path());
    let is_destination = |path: &PathBuf| path.extension().is_some_and(|e| e != "jks");
    let mut files: Vec<PathBuf> = files.filter(is_destination).collect();
    files.sort();
    files
}

fn snapshot_name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().replace('.', "-")
}

#[test]
fn every_broken_file_says_what_is_wrong_where_and_what_to_do() {
    let folder = closed_folder();
    copy(folder.path());
    let files = corpus(folder.path());
    assert!(files.len() >= 45, "{} files", files.len());
    for path in files {
        let environment = environment(&[(MARKER, "hunter2-MARKER")]);
        let source = FileSource::with_environment(vec![path.clone()], environment);
        let snapshot = source.load(None);
        let messages = messages(&snapshot, folder.path());
        assert!(messages.contains("error: "), "{} is not broken", path.display());
        let everything = format!("{messages}{snapshot:?}");
        assert!(!everything.contains(MARKER), "{}: {everything}", path.display());
        insta::assert_snapshot!(snapshot_name(&path), messages);
    }
}
