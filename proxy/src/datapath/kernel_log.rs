//! The eBPF programs' own reports, at trace level.

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Error;

/// Reads what the programs report.
#[derive(Debug)]
#[must_use = "the reports are read by `forward`"]
pub struct KernelLog(Reports);

struct Reports(EbpfLogger<Forwarder>);

impl std::fmt::Debug for Reports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reports")
    }
}

impl KernelLog {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, Error> {
        let logger =
            EbpfLogger::init_with_logger(ebpf, Forwarder).map_err(|source| Error::KernelLog { source })?;
        Ok(Self(Reports(logger)))
    }

    /// Forwards reports until it is dropped.
    pub async fn forward(self) -> std::io::Result<()> {
        // SAFETY: the reader owns the map whose descriptor it returns, always the same one.
        #[expect(unsafe_code, reason = "`AsyncFd` cannot know that the descriptor stays open")]
        let mut reports = unsafe { AsyncFd::register_with_interest(self.0.0, Interest::READABLE)? };
        loop {
            let mut ready = reports.readable_mut().await?;
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    }
}

/// From the `log` crate, which is what the reader speaks, to `tracing`.
struct Forwarder;

impl Log for Forwarder {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        tracing::trace!(target: "transparent_proxy::kernel", "{}", record.args());
    }

    fn flush(&self) {}
}
