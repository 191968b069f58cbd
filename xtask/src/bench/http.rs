//! `bench http`: every proxy adds a Basic credential to keep-alive GETs for
//! the same upstream, which refuses requests without it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use super::load::{Load, Sample};
use super::proxies::{self, Proxy, Setting};
use super::report::{Report, Round};
use crate::build_ebpf;
use crate::daemon::{self, Daemon};
use crate::machine;
use crate::peers::{self, Peers};
use crate::progress::Progress;
use crate::shell::cargo;
use crate::workspace;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How often every proxy is measured; the medians count
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,

    /// Length of one measurement in seconds
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=120))]
    seconds: u32,

    /// Connections that the load generator keeps open
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1000))]
    connections: u32,

    /// Worker threads or processes of every proxy
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,

    /// Which proxies, separated by commas; transparent-proxy is always among them
    #[arg(long, value_delimiter = ',', default_value = "nginx,haproxy,envoy")]
    peers: Vec<PeerProxy>,

    /// Measure this binary instead of building the release profile
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,

    /// Leave with an error if a goal of docs/benchmarks/README.md is missed
    #[arg(long)]
    check: bool,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq)]
enum PeerProxy {
    Nginx,
    Haproxy,
    Envoy,
    /// The least a forwarder on hyper can do: a lower bound
    BareHyper,
    /// No proxy: the load generator straight at the upstream
    Direct,
}

impl PeerProxy {
    /// What has to be provided for it.
    fn program(self) -> Option<&'static str> {
        match self {
            Self::Nginx => Some("nginx"),
            Self::Haproxy => Some("haproxy"),
            Self::Envoy => Some("envoy"),
            Self::BareHyper | Self::Direct => None,
        }
    }
}

/// Without the two that build.
const STEPS: usize = 3;
const BUILD_STEPS: usize = 2;

pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(reason) = machine::unfit() {
        bail!("the benchmark goes through the eBPF hook, which needs more than this machine gives: {reason}");
    }
    let steps = STEPS + if options.binary.is_some() { 0 } else { BUILD_STEPS };
    let mut progress = Progress::new("bench http", steps);
    let binary = binary(options, &mut progress)?;
    progress.step("peers and load generator");
    let programs = options.peers.iter().filter_map(|peer| peer.program());
    let wanted: Vec<&str> = ["nginx", "wrk"].into_iter().chain(programs).collect();
    let peers = peers::provide(&wanted)?;

    let folder = tempfile::Builder::new()
        .prefix("transparent-proxy-bench-")
        .tempdir()
        .context("a folder")?;
    progress.step("upstream and proxies");
    let upstream = Upstream::start(folder.path(), &peers, options.workers)?;
    let setting = Setting {
        folder: folder.path(),
        upstream: upstream.port,
        workers: options.workers,
    };
    let proxies = start_all(options, &progress, &peers, &setting, &binary)?;

    progress.step(&format!(
        "{} rounds of {} s for {} proxies",
        options.rounds,
        options.seconds,
        proxies.len()
    ));
    let load = Load {
        wrk: peers.program("wrk")?,
        folder: folder.path(),
        connections: options.connections,
        seconds: options.seconds,
    };
    let report = measure(options, &load, proxies)?;
    print!("{}", report.table());
    println!("written to {}", report.save("http")?.display());
    progress.done();
    if options.check && !report.goals_met() {
        bail!("a goal is missed");
    }
    Ok(())
}

fn binary(options: &Options, progress: &mut Progress) -> Result<PathBuf> {
    if let Some(binary) = &options.binary {
        return binary
            .canonicalize()
            .with_context(|| format!("{} is there", binary.display()));
    }
    progress.step("kernel object");
    build_ebpf::run(&build_ebpf::Options::default())?;
    let arguments = ["build", "--locked", "--release", "--package", "transparent-proxy"];
    progress.command(
        "release build (some minutes the first time)",
        cargo().args(arguments),
    )?;
    Ok(workspace::binary(true))
}

struct Upstream {
    _nginx: Daemon,
    port: u16,
}

impl Upstream {
    fn start(folder: &Path, peers: &Peers, workers: u32) -> Result<Self> {
        let folder = folder.join("upstream");
        fs::create_dir(&folder).context("a folder for the upstream")?;
        let port = daemon::free_port()?;
        let configuration = proxies::upstream_conf(&folder, port, workers);
        let mut command = daemon::nginx(peers.program("nginx")?, &folder, &configuration)?;
        Ok(Self {
            _nginx: Daemon::start("upstream", &mut command, &folder.join("log"), port)?,
            port,
        })
    }
}

/// A peer that is not to be had here is left out and named.
fn start_all(
    options: &Options,
    progress: &Progress,
    peers: &Peers,
    setting: &Setting<'_>,
    binary: &Path,
) -> Result<Vec<Proxy>> {
    let mut proxies = vec![proxies::ours(binary, setting)?];
    for peer in &options.peers {
        let started = match peer {
            PeerProxy::Nginx => peers.get("nginx").and_then(|peer| proxies::nginx(peer, setting)),
            PeerProxy::Haproxy => peers
                .get("haproxy")
                .and_then(|peer| proxies::haproxy(peer, setting)),
            PeerProxy::Envoy => peers.get("envoy").and_then(|peer| proxies::envoy(peer, setting)),
            PeerProxy::BareHyper => {
                bare_forwarder(progress).and_then(|program| proxies::bare_hyper(&program, setting))
            }
            PeerProxy::Direct => Ok(proxies::direct(setting)),
        };
        match started {
            Ok(proxy) => proxies.push(proxy),
            Err(error) => println!("    left out: {error:#}"),
        }
    }
    Ok(proxies)
}

fn bare_forwarder(progress: &Progress) -> Result<PathBuf> {
    let arguments = [
        "build",
        "--locked",
        "--release",
        "--package",
        "tests",
        "--example",
        "bare_forwarder",
    ];
    progress.quietly("build of the bare forwarder", cargo().args(arguments))?;
    Ok(workspace::target().join("release/examples/bare_forwarder"))
}

fn measure(options: &Options, load: &Load<'_>, mut proxies: Vec<Proxy>) -> Result<Report> {
    for proxy in &mut proxies {
        let warm = load.run(&proxy.target, &mut proxy.client, 1)?;
        warm.ensure_all_succeeded()
            .with_context(|| format!("{} forwards with the credential", proxy.name))?;
    }
    let mut report = Report::new(options.connections, options.seconds, options.workers);
    for round in 0..options.rounds as usize {
        // Another one begins every time, so that no place in the row is better.
        let count = proxies.len();
        proxies.rotate_left(usize::from(round > 0) % count);
        for proxy in &mut proxies {
            let round = measure_one(load, proxy)?;
            report.add(proxy, round);
        }
        println!("    round {} of {}", round + 1, options.rounds);
    }
    Ok(report)
}

fn measure_one(load: &Load<'_>, proxy: &mut Proxy) -> Result<Round> {
    let before = proxy.processes.cpu_seconds()?;
    let sample: Sample = load.run(&proxy.target, &mut proxy.client, load.seconds)?;
    let after = proxy.processes.cpu_seconds()?;
    sample
        .ensure_all_succeeded()
        .with_context(|| format!("all requests through {} succeed", proxy.name))?;
    Ok(Round::new(
        &sample,
        after - before,
        proxy.processes.resident_kib()?,
    ))
}
