//! What all roles on Kubernetes begin with: settings, log, runtime, probes, metrics.

use std::future::Future;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, LazyLock};

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::memory;
use crate::accept;
use crate::admin::probes::{self, Probes};
use crate::admin::{Fact, metrics};
use crate::cli::InCluster;
use crate::config::kubernetes::{File, Read};
use crate::lifecycle::drain::Drain;
use crate::resolve::source::secrets;
use crate::telemetry::level_file;
use crate::telemetry::logging::{self, FATAL, LogControl};
use crate::telemetry::registry::Metrics;

/// Reads the settings, starts to log, and runs `role` to its end on a runtime with one thread
/// beside this one. Its failure is the last line of the log.
///
/// `component` is what its lines say; as in the label of the pod.
pub(super) fn run<F>(
    component: &'static str,
    arguments: &InCluster,
    role: impl FnOnce(File) -> F,
) -> anyhow::Result<ExitCode>
where
    F: Future<Output = anyhow::Result<ExitCode>>,
{
    memory::keep_to_this_process().context("memory cannot be kept out of core files")?;
    keep_to_small_pages();
    let Read { settings, unknown } = Read::file(&arguments.config)?;
    let log = start_log(component, &settings)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let ended = runtime.block_on(async {
        listen_for_signals()?;
        follow_level(arguments, &settings, log);
        info!(version = env!("CARGO_PKG_VERSION"), ?settings, "starting");
        if !unknown.is_empty() {
            let keys = unknown.join(", ");
            warn!(keys, "settings that this version does not know are ignored");
        }
        role(settings).await
    });
    // Look-ups in blocking threads must not delay the end.
    runtime.shutdown_background();
    Ok(ended.unwrap_or_else(|error| {
        error!(target: FATAL, error = format!("{error:#}"), "{component} ends");
        ExitCode::FAILURE
    }))
}

/// The allocator asks for huge pages, of which a few used bytes make 2 MiB resident. That doubles
/// what a role takes that lists a large cluster once, and pods have limits.
fn keep_to_small_pages() {
    // It only costs memory where the kernel knows no such thing.
    let _ = nix::sys::prctl::set_thp_disable(true);
}

fn start_log(component: &'static str, settings: &File) -> anyhow::Result<LogControl> {
    let control = logging::init(&logging::Config {
        level: settings.logging.level.to_string(),
        format: settings.logging.format,
        output: logging::Output::StandardOutput,
        component,
    })?;
    // A name alone does not say all of it.
    control.set(settings.logging.level)?;
    Ok(control)
}

/// Nobody needs the log level to change, so nothing ends because it cannot.
fn follow_level(arguments: &InCluster, settings: &File, log: LogControl) {
    let level = settings.logging.level;
    let placed = std::env::current_exe()
        .map_err(anyhow::Error::from)
        .and_then(|program| Ok(level_file::place(&arguments.logging, level, &program)?));
    match placed {
        Ok(()) => drop(tokio::spawn(level_file::follow(
            arguments.logging.clone(),
            level,
            log,
        ))),
        Err(error) => {
            let error = format!("{error:#}");
            warn!(error, "the log level cannot be changed while this runs");
        }
    }
}

/// Serves the probes from now on, also while the process drains.
pub(super) fn serve_probes(address: SocketAddr, probes: Probes, drain: &Drain) -> anyhow::Result<()> {
    let listener = bind(address).context("the probes cannot be served")?;
    tokio::spawn(probes::serve(listener, Arc::new(probes), drain.signal()));
    Ok(())
}

/// Serves metrics from now on, also while the process drains.
pub(super) fn serve_metrics(address: SocketAddr, metrics: Metrics, drain: &Drain) -> anyhow::Result<()> {
    let listener = bind(address).context("metrics cannot be served")?;
    tokio::spawn(metrics::serve(listener, Arc::new(metrics), drain.signal()));
    Ok(())
}

pub(super) fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    accept::bind(address).with_context(|| format!("{address} cannot be used"))
}

/// Resolves when the kubelet, or somebody at a terminal, asks this process to stop, and at once if
/// that was before.
pub(super) async fn asked_to_stop() -> anyhow::Result<()> {
    STOP.cancelled().await;
    Ok(())
}

/// Resolves when it is asked for a second time: somebody does not want to wait.
pub(super) async fn asked_again() {
    STOP_AT_ONCE.cancelled().await;
}

/// Signals are the process's, whoever waits for them.
static STOP: LazyLock<CancellationToken> = LazyLock::new(CancellationToken::new);
static STOP_AT_ONCE: LazyLock<CancellationToken> = LazyLock::new(CancellationToken::new);

/// From now on such signals do not end the process: a start that takes long is asked, too.
fn listen_for_signals() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        for asked in [&STOP, &STOP_AT_ONCE] {
            let signal = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            info!(signal, "stopping");
            asked.cancel();
        }
    });
    Ok(())
}

/// How many Secrets are not used. Whoever reaches the pod may read this: which ones they are is in
/// the log, and what it means for a Destination CR in `explain`.
pub(super) fn refused_secrets(destinations: &secrets::Reader) -> Fact {
    Fact {
        name: "Secrets with the label that are no destination".into(),
        value: destinations.reports().len().to_string(),
        ok: true,
    }
}
