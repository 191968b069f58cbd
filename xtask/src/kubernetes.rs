//! `cargo xtask kubernetes`: the programs of a whole cluster, built out of Go modules once and kept.
//!
//! The versions are those of `tests/cluster/kubernetes/go.mod`. What runs containers comes from
//! Debian's packages, unpacked privately so that no daemon is started.

mod build;
mod runtime;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

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
    println!(
        "A cluster by hand:      tests/cluster/README.md; `cargo xtask e2e --keep` leaves one with the proxy in it"
    );
    Ok(())
}

/// What the scripts in `tests/cluster` need to know.
pub(crate) struct Cluster {
    pub(crate) programs: PathBuf,
    pub(crate) runtime: PathBuf,
}

/// Everything for clusters with nodes and containers.
pub(crate) fn provide(progress: &mut Progress) -> Result<Cluster> {
    let programs = build(progress)?;
    progress.step("container runtime and network plugins");
    Ok(Cluster {
        programs,
        runtime: runtime::provide()?,
    })
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
fn sources() -> PathBuf {
    workspace::root().join("tests/cluster")
}

fn cache() -> PathBuf {
    workspace::cache().join("kubernetes")
}

/// Programs by links in one folder, so that one entry of PATH is enough.
fn link(from: &Path, to: &Path) -> Result<()> {
    if std::fs::read_link(from).is_ok_and(|target| target == to) {
        return Ok(());
    }
    // Another run may do the same at this moment: the last one wins, and both are right.
    let beside = from.with_extension(format!("new-{}", std::process::id()));
    std::os::unix::fs::symlink(to, &beside).with_context(|| format!("{} can be made", beside.display()))?;
    std::fs::rename(&beside, from).with_context(|| format!("{} can be made", from.display()))
}
