//! Everything that CI passes, with all set-up.

mod secrets;
mod summary;

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::build_ebpf;
use crate::kubernetes;
use crate::lint;
use crate::machine;
use crate::peers;
use crate::progress::Progress;
use crate::shell::{self, cargo};
use crate::workspace;
use summary::Summary;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Leave out formatting, clippy and the other checks of `cargo xtask lint`
    #[arg(long)]
    no_lint: bool,

    /// Only tests whose name contains one of these
    filters: Vec<String>,
}

/// What comes besides lint: kernel object, Kubernetes, peers, build, two test runs, grep.
const STEPS: usize = 7;

pub(crate) fn run(options: &Options) -> Result<()> {
    let unfit = announce_fitness()?;
    let steps = STEPS + if options.no_lint { 0 } else { lint::STEPS };
    let mut progress = Progress::new("test", steps);

    progress.step("kernel object");
    build_ebpf::run(&build_ebpf::Options::default())?;
    if !options.no_lint {
        lint::steps(&mut progress)?;
    }
    kubernetes::build(&mut progress)?;
    progress.step("third-party servers and clients");
    let peer_list = provide_peers()?;
    progress.command(
        "build of the proxy and its tests",
        cargo().args(["test", "--locked", "--no-run"]),
    )?;
    progress.quietly(
        "build of the binary",
        cargo().args(["build", "--locked", "--package", "transparent-proxy"]),
    )?;

    let logs = fresh_log_folder()?;
    let environment = [
        (peers::LIST_VARIABLE, peer_list.into_os_string()),
        ("TRANSPARENT_PROXY", workspace::binary(false).into_os_string()),
        ("TRANSPARENT_PROXY_TEST_LOGS", logs.clone().into_os_string()),
    ];
    progress.step("unit tests");
    let units = units(options, &environment)?;
    progress.step("end-to-end tests");
    let suite = suite(options, &environment, unfit.is_none())?;
    progress.step("secrets in the logs of the end-to-end tests");
    let everything = options.filters.is_empty() && unfit.is_none();
    let leaks = secrets::check(&logs, everything)?;
    progress.done();
    if let Some(reason) = unfit {
        println!("Only what needs no eBPF ran: {reason}.");
    }
    conclude(&units.and(suite).and(leaks))
}

/// On CI a machine that cannot run everything must not look green.
fn announce_fitness() -> Result<Option<String>> {
    let Some(reason) = machine::unfit() else {
        return Ok(None);
    };
    if workspace::in_ci() {
        bail!("this machine cannot load eBPF programs: {reason}; on CI everything must run");
    }
    println!("This machine cannot load eBPF programs: {reason}.");
    println!(
        "Lint, unit tests and the end-to-end tests that need no privileges run; the others say that they are skipped."
    );
    Ok(Some(reason))
}

fn provide_peers() -> Result<PathBuf> {
    let peers = peers::provide(&peers::all())?;
    peers::provide_node_modules(&peers)?;
    let missing: Vec<String> = peers
        .missing()
        .map(|(name, reason)| format!("{name}: {reason}"))
        .collect();
    if !missing.is_empty() && workspace::in_ci() {
        bail!("some peers of the tests are missing:\n{}", missing.join("\n"));
    }
    for line in missing {
        println!("    missing {line}");
    }
    peers.save()
}

/// Logs of an earlier run would be searched again.
fn fresh_log_folder() -> Result<PathBuf> {
    let folder = workspace::target().join("test-logs");
    if folder.exists() {
        shell::output(shell::as_root("rm").arg("-rf").arg("--").arg(&folder))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("{} can be made", folder.display()))?;
    Ok(folder)
}

type Environment = [(&'static str, OsString)];

/// Everything but the package `tests`; needs no privileges.
fn units(options: &Options, environment: &Environment) -> Result<Summary> {
    let run = |runner: &[&str], separator: &[&str]| {
        let packages = [
            "--locked",
            "--workspace",
            "--exclude",
            "tests",
            "--exclude",
            "proxy-ebpf",
        ];
        let mut command = cargo();
        command
            .args(runner)
            .args(packages)
            .args(separator)
            .args(&options.filters);
        test_run(&mut command, environment)
    };
    if shell::find("cargo-nextest").is_none() {
        return run(&["test", "--no-fail-fast"], &["--"]);
    }
    let units = run(&["nextest", "run", "--no-fail-fast", "--no-tests=pass"], &[])?;
    Ok(units.and(run(&["test", "--no-fail-fast", "--doc"], &["--"])?))
}

/// The package `tests`, as root where that is possible: eBPF needs the real one.
fn suite(options: &Options, environment: &Environment, privileged: bool) -> Result<Summary> {
    let mut command = cargo();
    command
        .args([
            "test",
            "--locked",
            "--no-fail-fast",
            "--package",
            "tests",
            "--test",
            "suite",
            "--",
        ])
        .args(&options.filters);
    if privileged && !nix::unistd::geteuid().is_root() {
        command.env(runner_variable()?, "sudo -E --");
    }
    test_run(&mut command, environment)
}

/// Cargo runs test executables through the program in this variable.
fn runner_variable() -> Result<String> {
    let text = shell::output(Command::new("rustc").arg("-vV"))?;
    let host = text
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("rustc names its host")?;
    Ok(format!(
        "CARGO_TARGET_{}_RUNNER",
        host.to_uppercase().replace('-', "_")
    ))
}

fn test_run(command: &mut Command, environment: &Environment) -> Result<Summary> {
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    follow(start(command)?)
}

pub(crate) fn start(command: &mut Command) -> Result<Child> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .context("the test runner starts")
}

/// Shows the runner's own output and reads its summary lines.
pub(crate) fn follow(mut child: Child) -> Result<Summary> {
    let output = BufReader::new(child.stdout.take().context("standard output is a pipe")?);
    let mut summary = Summary::default();
    for line in output.split(b'\n') {
        let line = line.context("the test runner's output can be read")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        summary.read(&line);
    }
    let status = child.wait().context("the test runner can be waited for")?;
    Ok(summary.with_status(status.success()))
}

/// The last line is the plain one that any reader of test results understands.
pub(crate) fn conclude(summary: &Summary) -> Result<()> {
    println!("{summary}");
    std::io::stdout()
        .flush()
        .context("standard output can be written")?;
    if summary.failed > 0 {
        bail!("{} failed", summary.failed);
    }
    if summary.passed == 0 {
        bail!("no test ran");
    }
    Ok(())
}
