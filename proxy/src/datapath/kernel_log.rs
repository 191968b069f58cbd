//! The eBPF programs' own reports, at debug level.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{Array, MapData, MapError};
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::interval;
use tracing::{Level, debug, enabled};

use super::Error;

const MAP: &str = "TELL";

/// So often the level is looked at, which may change at any time, and reports may be told again.
const ROUND: Duration = Duration::from_secs(1);
/// Reports in a round, then the programs are silent: to read them is slower than to write them, so who connects all
/// the time would keep this thread from everything else.
const MOST: u32 = 200;

/// Reads what the programs report.
#[must_use = "the reports are read by `forward`"]
pub struct KernelLog {
    reports: EbpfLogger<Forwarder>,
    switch: Arc<Switch>,
}

impl fmt::Debug for KernelLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KernelLog")
    }
}

impl KernelLog {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, Error> {
        let map = ebpf.take_map(MAP).ok_or(Error::Outdated { what: MAP })?;
        let tell = Array::try_from(map).map_err(|source| Error::Layout { what: MAP, source })?;
        let switch = Arc::new(Switch {
            tell: Mutex::new(tell),
            left: AtomicU32::new(0),
        });
        let forwarder = Forwarder(Arc::clone(&switch));
        let reports =
            EbpfLogger::init_with_logger(ebpf, forwarder).map_err(|source| Error::KernelLog { source })?;
        Ok(Self { reports, switch })
    }

    /// Lets the programs report while the level asks for it, and forwards what they do, until it is dropped.
    pub async fn forward(self) -> std::io::Result<()> {
        let Self { reports, switch } = self;
        // SAFETY: the reader owns the map whose descriptor it returns, always the same one.
        #[expect(unsafe_code, reason = "`AsyncFd` cannot know that the descriptor stays open")]
        let mut reports = unsafe { AsyncFd::register_with_interest(reports, Interest::READABLE)? };
        // Even a tick that is due at once would let connections go first.
        switch.begin_round();
        let mut round = interval(ROUND);
        loop {
            tokio::select! {
                biased;
                _ = round.tick() => switch.begin_round(),
                ready = reports.readable_mut() => {
                    let mut ready = ready?;
                    ready.get_inner_mut().flush();
                    ready.clear_ready();
                }
            }
        }
    }
}

/// Whether the programs report.
struct Switch {
    tell: Mutex<Array<MapData, u32>>,
    /// Reports that may be told in this round.
    left: AtomicU32,
}

impl Switch {
    fn begin_round(&self) {
        let wanted = enabled!(target: "transparent_proxy::kernel", Level::DEBUG);
        self.left.store(if wanted { MOST } else { 0 }, Ordering::Relaxed);
        self.turn(wanted);
    }

    /// Whether this one may be told.
    fn take(&self) -> bool {
        let less = |left: u32| left.checked_sub(1);
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less) {
            Ok(1) => {
                self.turn(false);
                true
            }
            Ok(_) => true,
            Err(_none) => false,
        }
    }

    fn turn(&self, on: bool) {
        if let Err(error) = self.set(on) {
            debug!(%error, "the programs cannot be told whether to report");
        }
    }

    fn set(&self, on: bool) -> Result<(), MapError> {
        let mut tell = self.tell.lock().unwrap_or_else(PoisonError::into_inner);
        tell.set(0, u32::from(on), 0)
    }
}

/// From the `log` crate, which is what the reader speaks, to `tracing`.
struct Forwarder(Arc<Switch>);

impl Log for Forwarder {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if self.0.take() {
            debug!(target: "transparent_proxy::kernel", "{}", record.args());
        }
    }

    fn flush(&self) {}
}
