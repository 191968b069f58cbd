//! `oidc-provider`, the OAuth server of the tests: its Node modules.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::Peers;
use crate::shell::output;
use crate::workspace;

pub(super) fn provide(peers: &Peers) -> Result<()> {
    let folder = workspace::root().join("tests/peers/oidc");
    let locked = fs::read(folder.join("package-lock.json"));
    let arguments: &[&str] = if locked.is_ok() {
        &["ci"]
    } else {
        &["install", "--no-package-lock"]
    };
    let Ok(wanted) = locked.or_else(|_| fs::read(folder.join("package.json"))) else {
        return Ok(());
    };
    let stamp = folder.join("node_modules/.installed-from");
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    println!(
        "    installs the Node modules of tests/peers/oidc (npm {})",
        arguments[0]
    );
    let mut npm = Command::new(peers.program("npm")?);
    npm.args(arguments)
        .args(["--omit=dev", "--no-audit", "--no-fund", "--ignore-scripts"]);
    output(npm.current_dir(&folder))?;
    fs::write(stamp, wanted).context("the stamp of the Node modules can be written")
}
