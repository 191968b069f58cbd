//! Whether what was written can be read again, and runs.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use serde_json::Value;

use crate::shell::{as_root, can_be_root, output};

/// Unpacks the image as a container runtime would, and asks its program for the version there.
pub(super) fn check(archive: &Path, program: &str) -> Result<()> {
    let folder = tempfile::tempdir().context("a folder can be made")?;
    let manifest: Value = serde_json::from_slice(&file(archive, "manifest.json")?).context("it is JSON")?;
    let layer = manifest[0]["Layers"][0]
        .as_str()
        .context("the manifest names a layer")?;
    let layer = file(archive, layer)?;
    tar::Archive::new(GzDecoder::new(&layer[..]))
        .unpack(folder.path())
        .context("the layer can be unpacked")?;
    if !can_be_root() {
        println!("    left out: chroot needs root");
        return Ok(());
    }
    let version = output(as_root("chroot").arg(folder.path()).args([program, "--version"]))?;
    println!("    {}", version.trim());
    ensure!(version.starts_with("transparent-proxy "), "it says: {version}");
    Ok(())
}

fn file(archive: &Path, name: &str) -> Result<Vec<u8>> {
    let opened = File::open(archive).with_context(|| format!("{} can be read", archive.display()))?;
    let mut archive = tar::Archive::new(opened);
    for entry in archive.entries().context("the archive can be read")? {
        let mut entry = entry.context("the archive can be read")?;
        if entry.path().is_ok_and(|path| path == Path::new(name)) {
            let mut content = Vec::new();
            entry
                .read_to_end(&mut content)
                .context("the archive can be read")?;
            return Ok(content);
        }
    }
    anyhow::bail!("the archive has no {name}")
}
