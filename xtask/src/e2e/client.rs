//! The image of the pods that use the proxy: unchanged programs of this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;

use crate::image::{Image, Layer};
use crate::peers::{Peers, debian};
use crate::shell::{self, output};
use crate::workspace;

pub(super) const NAME: &str = "localhost/client:1";
/// As examples/kubernetes/backend.yaml names it.
const BUSYBOX: &str = "docker.io/library/busybox:1.37";
/// What Java's HTTP client needs.
const MODULES: &str = "java.base,java.net.http";
const JAVA: &str = "/usr/lib/jvm/client";

pub(super) fn make(peers: &Peers) -> Result<PathBuf> {
    let mut layer = Layer::new();
    shell_and_tools(&mut layer)?;
    layer.program(peers.program("curl")?, "/usr/bin/curl")?;
    layer.copy(&pressure(peers)?, "/usr/bin/pressure")?;
    java(&mut layer, peers)?;
    let image = Image {
        name: NAME.to_owned(),
        layer,
        settings: json!({
            "Env": [format!("PATH=/usr/bin:/bin:{JAVA}/bin")],
            // A pod of a client waits to be used.
            "Entrypoint": ["/bin/sleep", "1000000"],
        }),
        compressed: false,
    };
    let archive = folder().join("client.tar");
    image.write(&archive)?;
    Ok(archive)
}

/// What the manifests of the documentation take from Docker Hub, out of the busybox of this machine.
pub(super) fn busybox() -> Result<PathBuf> {
    let mut layer = Layer::new();
    shell_and_tools(&mut layer)?;
    let image = Image {
        name: BUSYBOX.to_owned(),
        layer,
        settings: json!({"Env": ["PATH=/bin"], "Cmd": ["sh"]}),
        compressed: false,
    };
    let archive = folder().join("busybox.tar");
    image.write(&archive)?;
    Ok(archive)
}

fn folder() -> PathBuf {
    workspace::target().join("cluster")
}

fn shell_and_tools(layer: &mut Layer) -> Result<()> {
    let busybox = match shell::find("busybox") {
        Some(busybox) => busybox,
        None => debian::install("busybox-static", "busybox")?,
    };
    layer.program(&busybox, "/bin/busybox")?;
    let applets = output(Command::new(&busybox).arg("--list"))?;
    for applet in applets.lines().filter(|applet| *applet != "busybox") {
        layer.link(&format!("/bin/{applet}"), "busybox");
    }
    layer
        .text("/etc/passwd", "root:x:0:0:root:/:/bin/sh\n")
        .text("/etc/nsswitch.conf", "hosts: files dns\n")
        .folder("/tmp", 0o1777);
    Ok(())
}

/// Steady requests, for what must not be interrupted.
fn pressure(peers: &Peers) -> Result<PathBuf> {
    let program = folder().join("pressure");
    let mut go = Command::new(peers.program("go")?);
    go.args(["build", "-trimpath", "-o"])
        .arg(&program)
        .arg(workspace::root().join("tests/clients/pressure.go"))
        .env("CGO_ENABLED", "0");
    output(&mut go)?;
    Ok(program)
}

/// A runtime of no more than the client needs, and the client's class.
fn java(layer: &mut Layer, peers: &Peers) -> Result<()> {
    let runtime = folder().join("java");
    if !runtime.join("release").exists() {
        let java = fs::canonicalize(peers.program("java")?).context("java is a program")?;
        fs::remove_dir_all(&runtime).ok();
        output(
            Command::new(java.with_file_name("jlink"))
                .args(["--add-modules", MODULES, "--strip-debug", "--no-man-pages"])
                .args(["--no-header-files", "--output"])
                .arg(&runtime),
        )
        .context("openjdk-17-jdk-headless has jlink")?;
    }
    let own = [runtime.join("lib"), runtime.join("lib/server")];
    for file in shared_objects(&runtime)?
        .into_iter()
        .chain([runtime.join("bin/java")])
    {
        layer.libraries(&file, &own)?;
    }
    layer.tree(&runtime, JAVA)?;
    let classes = folder().join("classes");
    let mut javac = Command::new(peers.program("javac")?);
    javac.args(["--release", "17", "-d"]).arg(&classes);
    output(javac.arg(workspace::root().join("tests/clients/Client.java")))?;
    layer.tree(&classes, "/usr/share/client")?;
    Ok(())
}

fn shared_objects(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("{} can be listed", folder.display()))? {
        let path = entry.context("a folder can be listed")?.path();
        if path.is_dir() {
            found.extend(shared_objects(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "so") {
            found.push(path);
        }
    }
    Ok(found)
}
