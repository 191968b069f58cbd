//! The signals that the proxy passes on to CMD.

use std::io;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::io::unix::AsyncFd;

/// What a program may expect to receive from others. SIGTSTP and SIGCONT are not among
/// them: a terminal stops and continues the whole group, the proxy included.
const PASSED_ON: [Signal; 7] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

fn set() -> SigSet {
    PASSED_ON.into_iter().collect()
}

/// Keeps the signals from acting on this thread and those that it starts from now on.
/// Has to happen before the runtime starts its threads.
pub fn block() -> io::Result<()> {
    Ok(set().thread_block()?)
}

/// Undoes [`block`], for a program that is about to be executed.
pub(super) fn unblock() -> io::Result<()> {
    Ok(set().thread_unblock()?)
}

/// Receives the blocked signals.
#[derive(Debug)]
pub struct Signals(AsyncFd<SignalFd>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    pub signal: Signal,
    /// The kernel sent it, as for Ctrl-C.
    pub from_terminal: bool,
}

impl Received {
    /// Whether CMD has got it too: what a terminal sends goes to the whole foreground group,
    /// except that the leader of the session alone learns that the terminal is gone.
    pub fn reached_cmd(self) -> bool {
        self.from_terminal && self.signal != Signal::SIGHUP
    }

    /// What ends a service that has no CMD to pass signals on to.
    pub fn asks_to_stop(&self) -> bool {
        matches!(
            self.signal,
            Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT | Signal::SIGHUP
        )
    }
}

impl Signals {
    /// Within a runtime, after [`block`].
    #[expect(
        deprecated,
        reason = "the successor is unsafe; this descriptor is owned and stays the same"
    )]
    pub fn new() -> io::Result<Self> {
        let descriptor = SignalFd::with_flags(&set(), SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self(AsyncFd::new(descriptor)?))
    }

    /// The next signal; cancelling loses none.
    pub async fn next(&mut self) -> io::Result<Received> {
        loop {
            let mut ready = self.0.readable_mut().await?;
            let read = ready.try_io(|descriptor| {
                descriptor
                    .get_ref()
                    .read_signal()?
                    .ok_or_else(|| io::ErrorKind::WouldBlock.into())
            });
            let Ok(info) = read else { continue };
            let info = info?;
            let number = i32::try_from(info.ssi_signo).map_err(io::Error::other)?;
            return Ok(Received {
                signal: Signal::try_from(number)?,
                from_terminal: info.ssi_code == libc::SI_KERNEL,
            });
        }
    }
}
