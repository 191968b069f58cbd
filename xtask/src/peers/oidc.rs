//! `oidc-provider`, the OAuth server of the tests: its Node modules, as locked.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::Peers;
use crate::shell::output;
use crate::workspace;

pub(super) fn provide(peers: &Peers) -> Result<()> {
    let folder = workspace::root().join("tests/peers/oidc");
    let Ok(lock) = fs::read(folder.join("package-lock.json")) else {
        return Ok(());
    };
    let stamp = folder.join("node_modules/.installed-from");
    if fs::read(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    println!("    installs the Node modules of tests/peers/oidc (npm ci)");
    let mut npm = Command::new(peers.program("npm")?);
    npm.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]);
    output(npm.current_dir(&folder))?;
    fs::write(stamp, lock).context("the stamp of the Node modules can be written")
}
