//! Node modules of those peers that are written for it: `tests/peers/*/package.json`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::Peers;
use crate::shell::output;
use crate::workspace;

pub(super) fn provide(peers: &Peers) -> Result<()> {
    packages(&workspace::root().join("tests/peers"))
        .iter()
        .try_for_each(|folder| install(peers, folder))
}

fn packages(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.join("package.json").exists())
        .collect()
}

fn install(peers: &Peers, folder: &Path) -> Result<()> {
    let locked = fs::read(folder.join("package-lock.json"));
    let arguments: &[&str] = if locked.is_ok() {
        &["ci"]
    } else {
        &["install", "--no-package-lock"]
    };
    let wanted = locked.or_else(|_| fs::read(folder.join("package.json")));
    let wanted = wanted.with_context(|| format!("{} can be read", folder.display()))?;
    let stamp = folder.join("node_modules/.installed-from");
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    let shown = folder.strip_prefix(workspace::root()).unwrap_or(folder);
    println!(
        "    installs the Node modules of {} (npm {})",
        shown.display(),
        arguments[0]
    );
    let mut npm = Command::new(peers.program("npm")?);
    npm.args(arguments)
        .args(["--omit=dev", "--no-audit", "--no-fund", "--ignore-scripts"]);
    output(npm.current_dir(folder))?;
    fs::write(stamp, wanted).context("the stamp of the Node modules can be written")
}
