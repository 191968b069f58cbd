//! `cargo xtask image`: the image of the proxy, out of nothing but what the program needs.
//!
//! Written here and not by a container engine: there is nothing to pull and nothing to run, and
//! few engines keep the capabilities of the program, an extended attribute.

mod archive;
mod check;
mod layer;
mod libraries;
mod licences;
mod packages;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use self::packages::{Packages, text};
use crate::build_ebpf;
use crate::progress::Progress;
use crate::shell::{self, cargo, output};
use crate::workspace;

pub(crate) use archive::{Image, architecture};
pub(crate) use layer::{Capabilities, Layer};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Name and tag of the image [default: transparent-proxy:VERSION]
    #[arg(long, value_name = "NAME:TAG")]
    pub(crate) tag: Option<String>,

    /// Archive to write [default: target/image/transparent-proxy.tar]
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Commit that is built, for the image's label `org.opencontainers.image.revision` [default: none]
    #[arg(long, value_name = "COMMIT")]
    pub(crate) revision: Option<String>,

    /// Pack the unoptimised build, for tests: it is there sooner
    #[arg(long)]
    pub(crate) debug_binary: bool,
}

/// Steps that [`make`] takes.
pub(crate) const STEPS: usize = 4;

const PROGRAM: &str = "/usr/bin/transparent-proxy";
/// Other ones have to be told to the chart.
const CHARTS_ARCHITECTURE: &str = "amd64";
const USER: u32 = 65532;
/// What loading and attaching the eBPF programs takes; agents switch them on at their start.
const CAPABILITIES: Capabilities = Capabilities(&[(39, "cap_bpf"), (12, "cap_net_admin")]);
/// Where Debian's package ca-certificates collects them.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut progress = Progress::new("image", STEPS);
    let archive = make(options, &mut progress)?;
    progress.done();
    println!(
        "    ctr -n k8s.io images import {0}\n    docker load --input {0}",
        archive.display()
    );
    if architecture() != CHARTS_ARCHITECTURE {
        let value = format!("deployment.image.architectures={{{}}}", architecture());
        println!("    helm install … --set '{value}'");
    }
    Ok(())
}

pub(crate) fn make(options: &Options, progress: &mut Progress) -> Result<PathBuf> {
    progress.step("kernel object");
    build_ebpf::run(&build_ebpf::Options::default())?;
    let binary = build(options.debug_binary, progress)?;
    progress.step("image");
    let archive = options
        .output
        .clone()
        .unwrap_or_else(|| workspace::target().join("image/transparent-proxy.tar"));
    let image = image(&stripped(&binary)?, options, &Packages::read()?)?;
    image.write(&archive)?;
    report(&image, &archive)?;
    progress.step("the program in the image runs");
    check::check(&archive, PROGRAM)?;
    Ok(archive)
}

fn build(debug: bool, progress: &mut Progress) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--locked", "--package", "transparent-proxy"]);
    if debug {
        progress.command("build of the proxy, unoptimised", &mut command)?;
    } else {
        progress.command(
            "build of the proxy, optimised (some minutes the first time)",
            command.arg("--release"),
        )?;
    }
    Ok(workspace::binary(!debug))
}

/// Without line numbers, which are most of it. Names of functions stay, for backtraces.
fn stripped(binary: &Path) -> Result<PathBuf> {
    let stripped = workspace::target().join("image/transparent-proxy");
    let folder = stripped.parent().context("a folder")?;
    std::fs::create_dir_all(folder).with_context(|| format!("{} can be made", folder.display()))?;
    shell::find("strip").context("binutils is installed: it has the linker, too")?;
    output(
        Command::new("strip")
            .args(["--strip-debug", "-o"])
            .arg(&stripped)
            .arg(binary),
    )?;
    Ok(stripped)
}

/// <https://github.com/opencontainers/image-spec/blob/main/annotations.md>
fn labels(proxy: &Value, options: &Options) -> Value {
    let known = [
        ("title", Some("transparent-proxy")),
        ("description", proxy["description"].as_str()),
        ("version", proxy["version"].as_str()),
        ("licenses", proxy["license"].as_str()),
        ("source", proxy["repository"].as_str()),
        ("revision", options.revision.as_deref()),
    ];
    let known = known.into_iter().filter_map(|(name, value)| Some((name, value?)));
    known
        .map(|(name, value)| (format!("org.opencontainers.image.{name}"), value))
        .collect()
}

fn image(binary: &Path, options: &Options, packages: &Packages) -> Result<Image> {
    let proxy = packages.proxy()?;
    let name = || format!("transparent-proxy:{}", text(&proxy["version"]));
    Ok(Image {
        name: options.tag.clone().unwrap_or_else(name),
        layer: layer(binary, packages)?,
        settings: json!({
            "User": format!("{USER}:{USER}"),
            "Env": ["PATH=/usr/bin"],
            "Entrypoint": [PROGRAM],
            "WorkingDir": "/",
            "Labels": labels(proxy, options),
        }),
        compressed: true,
    })
}

fn layer(binary: &Path, packages: &Packages) -> Result<Layer> {
    let mut layer = Layer::new();
    licences::add(&mut layer, packages, binary)?;
    layer
        .program(binary, PROGRAM)?
        .capabilities(PROGRAM, CAPABILITIES)
        .copy(Path::new(AUTHORITIES), AUTHORITIES)
        .context("the certificates of the package ca-certificates go into the image")?
        .text(
            "/etc/passwd",
            &format!(
                "root:x:0:0:root:/:/sbin/nologin\nproxy:x:{USER}:{USER}:transparent-proxy:/:/sbin/nologin\n"
            ),
        )
        .text("/etc/group", &format!("root:x:0:\nproxy:x:{USER}:\n"))
        // The names of a pod come from its hosts file, then from the cluster's DNS.
        .text("/etc/nsswitch.conf", "hosts: files dns\n")
        .folder("/tmp", 0o1777);
    // Where the chart mounts something.
    for folder in [
        "/etc/logging",
        "/etc/transparent-proxy",
        "/host/cgroup",
        "/run/transparent-proxy",
        "/var/lib/transparent-proxy",
    ] {
        layer.folder(folder, 0o755);
    }
    Ok(layer)
}

#[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
fn report(image: &Image, archive: &Path) -> Result<()> {
    for line in image.layer.listing()? {
        println!("    {line}");
    }
    let size = std::fs::metadata(archive).context("it was just written")?.len();
    println!(
        "    {}, {:.1} MB: {}",
        image.name,
        size as f64 / 1e6,
        archive.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_say_what_is_known() {
        let proxy = json!({
            "version": "1.2.3", "license": "Apache-2.0", "repository": null, "description": "What it is",
        });
        let options = |revision: Option<&str>| Options {
            tag: None,
            output: None,
            revision: revision.map(str::to_owned),
            debug_binary: false,
        };
        let unknown = labels(&proxy, &options(None));
        assert_eq!(
            unknown,
            json!({
                "org.opencontainers.image.title": "transparent-proxy",
                "org.opencontainers.image.description": "What it is",
                "org.opencontainers.image.version": "1.2.3",
                "org.opencontainers.image.licenses": "Apache-2.0",
            })
        );
        let known = labels(&proxy, &options(Some("e23757e")));
        assert_eq!(known["org.opencontainers.image.revision"], "e23757e");
    }
}
