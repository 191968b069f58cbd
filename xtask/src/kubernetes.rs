//! `cargo xtask kubernetes`: the programs of a whole cluster, built out of Go modules once and kept.
//!
//! The versions are those of `tests/cluster/kubernetes/go.mod`. What runs containers comes from
//! Debian's packages, unpacked privately so that no daemon is started.

mod build;
mod runtime;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use crate::image::{Image, Layer};
use crate::progress::Progress;
use crate::workspace;

pub(crate) use build::programs;

#[derive(clap::Args)]
pub(crate) struct Options {}

/// Steps that [`provide`] takes.
pub(crate) const STEPS: usize = 2;

pub(crate) fn run(_options: &Options) -> Result<()> {
    let mut progress = Progress::new("kubernetes", STEPS);
    let cluster = provide(&mut progress)?;
    progress.done();
    println!("Programs of Kubernetes: {}", cluster.programs.display());
    println!("Container runtime:      {}", cluster.runtime.display());
    println!("A cluster by hand:      tests/cluster/up, enter, load, down; see tests/cluster/README.md");
    Ok(())
}

/// What the scripts in `tests/cluster` need.
pub(crate) struct Cluster {
    programs: PathBuf,
    runtime: PathBuf,
    /// Of the container that holds a pod's namespaces.
    pause: PathBuf,
}

/// Everything for clusters with nodes and containers.
pub(crate) fn provide(progress: &mut Progress) -> Result<Cluster> {
    let programs = build(progress)?;
    progress.step("container runtime and network plugins");
    let cluster = Cluster {
        runtime: runtime::provide()?,
        pause: pause(&programs)?,
        programs,
    };
    let file = target().join("environment");
    let lines = cluster
        .environment()
        .map(|(name, value)| format!("{name}='{}'\n", value.display()));
    fs::write(&file, lines.concat()).with_context(|| format!("{} can be written", file.display()))?;
    Ok(cluster)
}

impl Cluster {
    pub(crate) fn environment(&self) -> [(&'static str, &Path); 3] {
        [
            ("CLUSTER_PROGRAMS", &self.programs),
            ("CLUSTER_RUNTIME", &self.runtime),
            ("CLUSTER_PAUSE_IMAGE", &self.pause),
        ]
    }
}

fn pause(programs: &Path) -> Result<PathBuf> {
    let mut layer = Layer::new();
    layer.copy(&programs.join("pause"), "/pause")?;
    let image = Image {
        name: "localhost/pause:1".to_owned(),
        layer,
        settings: json!({ "Entrypoint": ["/pause"] }),
        compressed: false,
    };
    let archive = target().join("pause.tar");
    image.write(&archive)?;
    Ok(archive)
}

/// Only the programs, which are enough for an API server; one step.
pub(crate) fn build(progress: &mut Progress) -> Result<PathBuf> {
    build::build(progress)
}

/// Outside of a task that has steps.
pub(crate) fn build_alone() -> Result<PathBuf> {
    build(&mut Progress::new("kubernetes", 1))
}

/// Scripts and sources.
pub(crate) fn sources() -> PathBuf {
    workspace::root().join("tests/cluster")
}

/// What is made anew for every checkout.
fn target() -> PathBuf {
    workspace::target().join("cluster")
}

fn cache() -> PathBuf {
    workspace::cache().join("kubernetes")
}

/// Programs by links in one folder, so that one entry of PATH is enough.
fn link(from: &Path, to: &Path) -> Result<()> {
    if fs::read_link(from).is_ok_and(|target| target == to) {
        return Ok(());
    }
    // Another run may do the same at this moment: the last one wins, and both are right.
    let beside = from.with_extension(format!("new-{}", std::process::id()));
    std::os::unix::fs::symlink(to, &beside).with_context(|| format!("{} can be made", beside.display()))?;
    fs::rename(&beside, from).with_context(|| format!("{} can be made", from.display()))
}
