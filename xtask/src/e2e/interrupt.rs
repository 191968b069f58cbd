//! Ctrl-C ends the scenarios, but not before the cluster is taken down.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread;

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::unistd::Pid;

static HAPPENED: AtomicBool = AtomicBool::new(false);
/// The process group that gets the signals now; 0 is none.
static GROUP: AtomicI32 = AtomicI32::new(0);

/// From here on, signals do not end this process, but the group that was named last.
/// Children are not affected: std starts programs with no signal blocked.
pub(super) fn prepare() -> Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block().context("signals can be blocked")?;
    thread::spawn(move || {
        while signals.wait().is_ok() {
            HAPPENED.store(true, Ordering::SeqCst);
            end(GROUP.load(Ordering::SeqCst));
        }
    });
    Ok(())
}

pub(super) fn happened() -> bool {
    HAPPENED.load(Ordering::SeqCst)
}

/// A group of its own: a terminal sends it nothing, and all of it can be ended.
pub(super) fn group(command: &mut Command) -> &mut Command {
    command.process_group(0)
}

/// From here on, signals end the group of this child.
pub(super) fn ends(child: &Child) -> Result<()> {
    let group = i32::try_from(child.id()).context("process ids fit")?;
    GROUP.store(group, Ordering::SeqCst);
    if happened() {
        end(group);
    }
    Ok(())
}

fn end(group: i32) {
    if group != 0 {
        // It may have ended by itself.
        killpg(Pid::from_raw(group), Signal::SIGTERM).ok();
    }
}
