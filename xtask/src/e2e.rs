//! `cargo xtask e2e`: the product on a real cluster of two nodes, from `helm install` to `helm uninstall`.

mod client;
mod cluster;
mod interrupt;

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Result, bail};

use crate::image;
use crate::kubernetes;
use crate::machine;
use crate::peers;
use crate::progress::Progress;
use crate::shell::cargo;
use crate::test;
use crate::workspace;
use cluster::Running;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Test the optimised build, which is what users get, instead of the quicker one
    #[arg(long)]
    pub(crate) release: bool,

    /// Leave the cluster running at the end; `tests/cluster/down` ends it
    #[arg(long)]
    pub(crate) keep: bool,

    /// Only scenarios whose name contains one of these (and the installation, which all need)
    pub(crate) filters: Vec<String>,
}

/// Besides those of Kubernetes and of the image: peers, client image, tests, cluster, scenarios.
const STEPS: usize = 5;

pub(crate) fn run(options: &Options) -> Result<()> {
    pass("e2e", options, &[])
}

/// `environment` is for the scenarios.
pub(crate) fn pass(task: &'static str, options: &Options, environment: &[(&str, String)]) -> Result<()> {
    if let Some(reason) = machine::unfit() {
        bail!("a cluster with the proxy cannot run here: {reason}");
    }
    let mut progress = Progress::new(task, kubernetes::STEPS + image::STEPS + STEPS);
    let cluster = kubernetes::provide(&mut progress)?;
    let proxy = image::make(
        &image::Options {
            tag: None,
            output: None,
            revision: None,
            debug_binary: !options.release,
        },
        &mut progress,
    )?;
    progress.step("image of the clients: curl, Java and others");
    let peers = peers::provide(&["curl", "go", "java", "javac", "helm", "kubectl"])?;
    let clients = [client::make(&peers)?, client::busybox()?];
    progress.command("build of the scenarios", &mut scenarios(&["--no-run"]))?;

    interrupt::prepare()?;
    let running = Running::start(
        cluster,
        &[&[proxy], &clients[..]].concat(),
        options.keep,
        &mut progress,
    )?;
    progress.step("scenarios");
    let mut command = scenarios(&["--"]);
    command.args(&options.filters).envs(running.environment());
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command.env(peers::LIST_VARIABLE, peers.save()?);
    let child = test::start(interrupt::group(&mut command))?;
    interrupt::ends(&child)?;
    let summary = test::follow(child);
    drop(running);
    progress.done();
    if interrupt::happened() {
        bail!("interrupted");
    }
    test::conclude(&summary?)
}

fn scenarios(arguments: &[&str]) -> Command {
    let mut command = cargo();
    command
        .args(["test", "--locked", "--package", "tests", "--test", "e2e"])
        .args(arguments);
    command
}

/// Names of variables and their values.
type Environment = Vec<(&'static str, OsString)>;

/// For whoever asks again what a run left behind.
fn state() -> std::path::PathBuf {
    // In /tmp because nodes have their own /run and /var; short, because sockets have short paths.
    let checkout = workspace::target();
    let hash = checkout
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(5381_u32, |hash, byte| hash.wrapping_mul(33) ^ u32::from(*byte));
    std::env::temp_dir().join(format!("transparent-proxy-e2e-{hash:08x}"))
}
