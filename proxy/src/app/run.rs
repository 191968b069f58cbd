//! The role `run`: destinations from files, for one command or for processes that run already.

pub mod command;
mod hook;
pub mod hosts;
pub mod sandbox;
mod serving;
pub mod signals;
mod status;
pub mod table;
pub mod virtual_ip;

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::sync::watch;
use tracing::{info, warn};

use self::hook::Hook;
use self::hosts::PublicHosts;
use self::sandbox::Sandbox;
use self::serving::{Parts, Serving};
use self::signals::Signals;
use self::status::Page;
use self::virtual_ip::VirtualIpPool;
use super::parts;
use crate::accept::{self, Limits, LimitsConfig};
use crate::config::Scope;
use crate::connect::direct::{self, OwnAddresses};
use crate::datapath::Datapath;
use crate::flow::http::Retry;
use crate::lifecycle::drain::{Drain, Drained};
use crate::lifecycle::supervisor::{Broken, supervisor};
use crate::resolve::source::files::{FileSource, Snapshot};
use crate::telemetry::logging::{self, LogControl};
use crate::telemetry::registry::{Metrics, scopes};
use crate::{cli, config};

pub fn run(config: &config::Run) -> anyhow::Result<ExitCode> {
    let limits = sandbox::Limits::current()?;
    super::memory::keep_to_this_process().context("memory cannot be kept out of core files")?;
    let log = logging::init(&logging_config(&config.logging))?;
    let descriptors = accept::raise_descriptor_limit().context("the limit of open files cannot be raised")?;
    signals::block()?;
    // For all but the connections, which are the workers'.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let code = runtime.block_on(serve(config, limits, descriptors.now, log));
    // Look-ups in blocking threads must not delay the end.
    runtime.shutdown_background();
    Ok(ExitCode::from(code?))
}

/// Puts everything together, serves until the end, takes everything apart.
async fn serve(
    config: &config::Run,
    limits: sandbox::Limits,
    descriptors: u64,
    log: LogControl,
) -> anyhow::Result<u8> {
    let signals = Signals::new()?;
    let datapath = Datapath::load(&hook::options())?;
    let sandbox = match &config.scope {
        Scope::Command(command) => Some(Sandbox::create(&sandbox::Options {
            user: command.user.as_deref(),
            limits,
            executable: Path::new(sandbox::THIS_PROGRAM),
        })?),
        Scope::Cgroup(_) | Scope::Machine => None,
    };
    let cgroup = hook::cgroup(&config.scope, sandbox.as_ref())?;

    let drain = Drain::new();
    let mut metrics = Metrics::new();
    let page = Page::default();
    let starting = page.readiness.latch("hook");
    let limits = Limits::new(connection_limits(config, descriptors));
    let (parts, broken) = parts(config, &datapath, limits, &page, &mut metrics)?;
    let mut serving = Serving::new(parts, VirtualIpPool::new(config.virtual_ips), drain.child());
    let mut destinations = FileSource::new(config.destinations.clone()).watch();
    serving.apply(&destinations.borrow_and_update().clone());

    let names = Names::open(config, sandbox.as_ref())?;
    names.update(&serving)?;
    let mut hook = Hook::attach(datapath, cgroup, page.hook_effective.clone(), &mut metrics).await?;

    if let Some(address) = config.metrics {
        page.serve(address, metrics, log, &drain)?;
    }
    drop(starting);

    let session = Session {
        config,
        sandbox: sandbox.as_ref(),
        signals,
        serving,
        names: &names,
        page: &page,
        destinations,
        broken,
    };
    let code = session.run(&mut hook).await;

    hook.stop_redirecting();
    // Ends what CMD left running, and with it its connections.
    if let Some(sandbox) = sandbox {
        sandbox.close();
    }
    let (code, mut signals) = code?;
    finish(&drain, config.drain_timeout, &mut signals).await;
    names.restore();
    Ok(code)
}

/// What runs from the first connection to the last.
struct Session<'a> {
    config: &'a config::Run,
    sandbox: Option<&'a Sandbox>,
    signals: Signals,
    serving: Serving,
    names: &'a Names,
    page: &'a Page,
    destinations: watch::Receiver<Arc<Snapshot>>,
    broken: Broken,
}

impl Session<'_> {
    /// Runs CMD to its end, or serves until a signal asks to stop; gives the exit code.
    async fn run(mut self, hook: &mut Hook) -> anyhow::Result<(u8, Signals)> {
        let mut command = match (&self.config.scope, self.sandbox) {
            (Scope::Command(command), Some(sandbox)) => {
                if self.serving.is_empty() {
                    bail!("no destination can be served, so CMD is not started; see the messages above");
                }
                Some(sandbox.start(&command.program, &command.arguments)?)
            }
            _ => None,
        };
        self.show(command.is_none());
        let mut proof = super::hook::interval();
        loop {
            let ended = async {
                match &mut command {
                    Some(command) => Ok(command.wait(&mut self.signals).await?),
                    None => terminated(&mut self.signals).await,
                }
            };
            tokio::select! {
                code = ended => return Ok((code?, self.signals)),
                changed = self.destinations.changed() => {
                    changed.context("the destination files are no longer watched")?;
                    self.apply_change(command.is_none())?;
                }
                message = self.broken.next() => bail!("a listener broke: {message}"),
                _ = proof.tick() => hook.prove().await,
            }
        }
    }

    fn apply_change(&mut self, prints: bool) -> anyhow::Result<()> {
        let snapshot = self.destinations.borrow_and_update().clone();
        self.serving.apply(&snapshot);
        self.names.update(&self.serving)?;
        self.show(prints);
        Ok(())
    }

    /// On the status page, and on standard output if that is not CMD's.
    fn show(&self, prints: bool) {
        let rows = self.serving.table(&self.destinations.borrow());
        self.page.show(&rows);
        if prints {
            print!("{}", table::render(&rows, std::io::stdout().is_terminal()));
        }
    }
}

/// Resolves with the exit code when a signal asks to stop.
async fn terminated(signals: &mut Signals) -> anyhow::Result<u8> {
    loop {
        let received = signals.next().await?;
        if received.asks_to_stop() {
            info!(signal = %received.signal, "stopping");
            return Ok(0);
        }
    }
}

/// Lets open requests and connections finish; a second signal or the deadline cuts them.
async fn finish(drain: &Drain, deadline: Duration, signals: &mut Signals) {
    let drained = tokio::select! {
        drained = drain.finish(deadline) => drained,
        Ok(_) = terminated(signals) => {
            drain.cut();
            drain.finish(Duration::ZERO).await
        }
    };
    if let Drained::Cut(held) = drained {
        warn!(connections = held, "connections were cut");
    }
}

/// The hosts files that show applications the virtual IPs.
struct Names {
    private: Option<hosts::PrivateHosts>,
    public: Option<PublicHosts>,
}

impl Names {
    fn open(config: &config::Run, sandbox: Option<&Sandbox>) -> anyhow::Result<Self> {
        let public = match &config.hosts_file {
            None => None,
            Some(path) => Some(
                PublicHosts::open(path)
                    .with_context(|| format!("the hosts file {} cannot be used", path.display()))?,
            ),
        };
        Ok(Self {
            private: sandbox.map(Sandbox::hosts),
            public,
        })
    }

    fn update(&self, serving: &Serving) -> anyhow::Result<()> {
        let names = serving.names();
        if let Some(hosts) = &self.private {
            hosts
                .update(&names)
                .context("the hosts file of CMD cannot be written")?;
        }
        if let Some(hosts) = &self.public {
            hosts.update(&names).context("the hosts file cannot be written")?;
        }
        Ok(())
    }

    fn restore(&self) {
        if let Some(Err(error)) = self.public.as_ref().map(PublicHosts::restore) {
            warn!(%error, "the hosts file keeps the names of destinations that are no longer served");
        }
    }
}

fn parts(
    config: &config::Run,
    datapath: &Datapath,
    limits: Arc<Limits>,
    page: &Page,
    metrics: &mut Metrics,
) -> anyhow::Result<(Parts, Broken)> {
    let own = Arc::new(OwnAddresses::default());
    let additional_cas = parts::authorities(&config.additional_cas)?;
    let exempt = datapath.exempt();
    let shared = parts::start(parts::Decided {
        dialer: direct::Config {
            socket_hook: Some(Arc::new(move |socket| exempt.socket(socket))),
            own: Arc::clone(&own),
            forbid_loopback: false,
        },
        retry: config.retry.as_ref().map(retry),
        access_log: config.logging.access,
        technical_cas: additional_cas.clone().into(),
        target_cas: additional_cas,
        connections: page.connections.clone(),
    })?;
    limits.register(metrics.root());
    shared.flow.http.tokens.register(metrics.root());
    shared.flow.http.metrics.register(metrics.scope(scopes::HTTP));
    shared.flow.tcp.metrics.register(metrics.scope(scopes::TCP));
    metrics.register_process();
    let (supervisor, broken) = supervisor();
    let parts = Parts {
        workers: shared.workers,
        listen: config.listen,
        virtual_ips: datapath.virtual_ips(),
        own,
        limits,
        supervisor,
        flow: shared.flow,
    };
    Ok((parts, broken))
}

/// Everybody on this machine comes from one and the same loopback address.
fn connection_limits(config: &config::Run, descriptors: u64) -> LimitsConfig {
    let default = LimitsConfig::default();
    let per_source = if config.listen.is_loopback() {
        usize::MAX
    } else {
        default.per_source
    };
    LimitsConfig {
        per_source,
        ..default
    }
    .within_descriptors(descriptors)
}

fn retry(retry: &config::Retry) -> Retry {
    Retry {
        max_retries: retry.max_retries.into(),
        status_codes: retry.status_codes.clone(),
    }
}

fn logging_config(config: &config::Logging) -> logging::Config {
    logging::Config {
        level: config.level.to_string().to_lowercase(),
        format: config.format,
        output: match &config.file {
            Some(path) => logging::Output::File(path.clone()),
            None => logging::Output::StandardError,
        },
        component: "run",
    }
}

/// Role `__sandbox`: the sandbox with fixed names and without any proxy, so that its
/// behaviour can be tested apart from the kernel programs.
pub fn sandbox_only(arguments: &cli::SandboxOnly) -> anyhow::Result<ExitCode> {
    let limits = sandbox::Limits::current()?;
    signals::block()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut signals = signals::Signals::new()?;
        let sandbox = sandbox::Sandbox::create(&sandbox::Options {
            user: arguments.user.as_deref(),
            limits,
            executable: Path::new(sandbox::THIS_PROGRAM),
        })?;
        let entries: Vec<hosts::Entry> = arguments
            .host
            .iter()
            .map(|(address, name)| hosts::Entry {
                address: *address,
                name: name.clone(),
            })
            .collect();
        sandbox.hosts().update(&entries)?;
        let (program, rest) = arguments
            .command
            .split_first()
            .context("clap demands a command")?;
        let code = sandbox.start(program, rest)?.wait(&mut signals).await?;
        sandbox.close();
        Ok(ExitCode::from(code))
    })
}
