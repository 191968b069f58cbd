//! The build: one `go build`, because most packages are shared.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::{cache, link, sources};
use crate::progress::Progress;
use crate::shell::{self, output};

/// Names by which the one program `kube` is called.
const PROGRAMS: &[&str] = &[
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
];
const PACKAGES: &[&str] = &["./kube", "./pause", "./coredns", "helm.sh/helm/v3/cmd/helm"];
/// Without inlining and debug information the compiler takes half the time, and nobody
/// measures the speed of Kubernetes here.
const COMPILER_FLAGS: &str = "all=-l -dwarf=false";
const FLAGS: &str = "-mod=readonly -buildvcs=false -trimpath";
/// Memory is cheaper than time here; see the documentation of Go's package `runtime`.
const GARBAGE_COLLECTION_PERCENT: &str = "400";

pub(super) fn build(progress: &mut Progress) -> Result<PathBuf> {
    let versions = Versions::read()?;
    let what = format!("Kubernetes {} from Go modules", versions.kubernetes);
    let folder = programs()?;
    if folder.exists() {
        progress.step(&format!("{what}: built already"));
        return Ok(folder);
    }
    need_go()?;
    let parent = folder.parent().context("the cache has a parent")?;
    fs::create_dir_all(parent).with_context(|| format!("{} can be made", parent.display()))?;
    let work = tempfile::tempdir_in(parent).context("a folder for the build can be made")?;
    progress.command(
        &format!("{what} (about 6 minutes, once)"),
        &mut go_build(&versions, work.path()),
    )?;
    for name in PROGRAMS {
        link(&work.path().join(name), Path::new("kube"))?;
    }
    // Complete or not there at all. Somebody else may have been quicker; theirs is the same.
    let work = work.keep();
    if fs::rename(&work, &folder).is_err() && folder.exists() {
        fs::remove_dir_all(&work).context("a second build can be removed")?;
    }
    make_readable(&folder)?;
    Ok(folder)
}

/// Where the programs are, or will be: the name tells from which sources they come.
pub(crate) fn programs() -> Result<PathBuf> {
    Ok(cache().join(format!("{}-{}", Versions::read()?.kubernetes, stamp()?)))
}

/// Of everything that decides what comes out.
fn stamp() -> Result<String> {
    let mut hash = Sha256::new();
    for file in [
        "go.mod",
        "go.sum",
        "kube/main.go",
        "pause/main.go",
        "coredns/main.go",
    ] {
        let path = module().join(file);
        hash.update(fs::read(&path).with_context(|| format!("{} can be read", path.display()))?);
    }
    for text in PACKAGES.iter().chain([&COMPILER_FLAGS, &FLAGS]) {
        hash.update(text);
    }
    hash.update(std::env::consts::ARCH);
    let hash = u64::from_be_bytes(hash.finalize()[..8].try_into().context("a hash is longer")?);
    Ok(format!("{hash:016x}"))
}

fn module() -> PathBuf {
    sources().join("kubernetes")
}

struct Versions {
    kubernetes: String,
    helm: String,
}

impl Versions {
    fn read() -> Result<Self> {
        let path = module().join("go.mod");
        let text = fs::read_to_string(&path).with_context(|| format!("{} can be read", path.display()))?;
        let version = |module| required(&text, module).with_context(|| format!("go.mod requires {module}"));
        Ok(Self {
            kubernetes: version("k8s.io/kubernetes")?,
            helm: version("helm.sh/helm/v3")?,
        })
    }

    /// Programs built out of modules do not know their version: kubectl would fail at it, and
    /// charts that ask for one of the server (`kubeVersion`) be refused.
    fn linker_flags(&self) -> String {
        let mut parts = self.kubernetes.trim_start_matches('v').split('.');
        let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let version = &self.kubernetes;
        let values = [
            ("k8s.io/component-base/version.gitVersion", version.as_str()),
            ("k8s.io/component-base/version.gitMajor", major),
            ("k8s.io/component-base/version.gitMinor", minor),
            ("k8s.io/component-base/version.gitTreeState", "clean"),
            ("k8s.io/client-go/pkg/version.gitVersion", version),
            ("helm.sh/helm/v3/internal/version.version", &self.helm),
        ];
        let values = values.map(|(name, value)| format!(" -X {name}={value}"));
        format!("-s -w{}", values.concat())
    }
}

/// `\tk8s.io/kubernetes v1.37.2`, the first one: later lines replace.
fn required(text: &str, module: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(module)).then(|| words.next().map(str::to_owned))?
    })
}

fn need_go() -> Result<()> {
    let wanted = "building Kubernetes needs Go 1.26 or newer on the PATH (https://go.dev/dl)";
    shell::find("go").context(wanted)?;
    output(&mut go(&["env", "GOVERSION"])).context(wanted).map(drop)
}

fn go(arguments: &[&str]) -> Command {
    let mut go = Command::new("go");
    go.current_dir(module())
        .args(arguments)
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off")
        .env("GOFLAGS", FLAGS);
    go
}

fn go_build(versions: &Versions, into: &Path) -> Command {
    let mut build = go(&["build", "-gcflags", COMPILER_FLAGS, "-ldflags"]);
    build
        .arg(versions.linker_flags())
        .arg("-o")
        // With the slash it is a folder, for several programs.
        .arg(into.join(""))
        .args(PACKAGES)
        .env("GOGC", GARBAGE_COLLECTION_PERCENT);
    build
}

/// Temporary folders are closed to others.
fn make_readable(folder: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("{} can be opened to others", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_required_one_not_a_replacement() {
        let text =
            "require (\n\tk8s.io/kubernetes v1.37.2\n)\nreplace (\n\tk8s.io/kubernetes => elsewhere v2\n)\n";
        assert_eq!(required(text, "k8s.io/kubernetes").as_deref(), Some("v1.37.2"));
        assert_eq!(required(text, "k8s.io/kube"), None);
    }

    #[test]
    fn the_server_says_the_version_of_its_module() {
        let versions = Versions {
            kubernetes: "v1.37.2".to_owned(),
            helm: "v3.22.0".to_owned(),
        };
        let flags = versions.linker_flags();
        assert!(flags.contains(" -X k8s.io/component-base/version.gitVersion=v1.37.2"));
        assert!(flags.contains(" -X k8s.io/component-base/version.gitMinor=37"));
    }
}
