//! Waiting for conditions and for processes, always with a deadline.

use std::fmt::Debug;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ExitStatus};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;

const DEADLINE: Duration = Duration::from_secs(20);

/// Polls until the condition holds; panics with its name when it does not in time.
pub fn until(what: &str, condition: impl FnMut() -> bool) {
    until_within(DEADLINE, what, condition);
}

/// The same for what takes longer.
pub fn until_within(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < deadline, "in vain waited until {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Polls until the value is the wanted one; panics with the last one when it does not come in time.
pub fn until_equal<T: PartialEq + Debug>(what: &str, wanted: &T, mut get: impl FnMut() -> T) {
    let start = Instant::now();
    loop {
        let last = get();
        if last == *wanted {
            return;
        }
        assert!(
            start.elapsed() < DEADLINE,
            "{what} is {last:#?} instead of {wanted:#?}"
        );
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// The first line that a child prints; servers print their port.
pub fn first_line(output: impl Read) -> String {
    let mut line = String::new();
    BufReader::new(output)
        .read_line(&mut line)
        .expect("the child prints a line");
    line.trim().to_owned()
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("a pid fits"))
}

/// Sends SIGTERM. The child must not have been waited for.
pub fn ask_to_stop(child: &Child) {
    kill(pid(child), Signal::SIGTERM).expect("the child is there");
}

/// Waits for the end of a child.
pub fn exit(child: &mut Child) -> ExitStatus {
    let mut status = None;
    until("the process has ended", || {
        status = child.try_wait().expect("it is our child");
        status.is_some()
    });
    status.expect("it was waited for")
}

/// Asks a child to end, and makes it when it does not.
pub fn terminate(child: &mut Child) {
    if !matches!(child.try_wait(), Ok(None)) {
        return;
    }
    if kill(pid(child), Signal::SIGTERM).is_err() {
        return;
    }
    let start = Instant::now();
    while matches!(child.try_wait(), Ok(None)) {
        if start.elapsed() > Duration::from_secs(5) {
            child.kill().ok();
            child.wait().ok();
            return;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
}
