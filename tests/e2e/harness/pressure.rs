//! Steady requests from a pod, and what became of them.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

/// Goes on until it is asked for the summary.
#[must_use = "its summary is the point"]
pub struct Pressure(Child);

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "some fields are only shown when a scenario fails")]
pub struct Summary {
    pub requests: usize,
    /// As many as the rate makes in that time.
    due: usize,
    pub failed: usize,
    slowest_ms: u64,
    outage_ms: u64,
    /// Milliseconds of 1970's begin.
    pub first_success: u64,
    last_failure: u64,
    /// The first ones: when, how long, why.
    failures: Option<Value>,
}

impl Pressure {
    pub(super) fn start(mut command: Command) -> Self {
        // It ends when its input ends.
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        Self(child.expect("the script starts"))
    }

    pub fn stop(mut self) -> Summary {
        drop(self.0.stdin.take());
        self.ends()
    }

    /// For one that ends by itself, with `-first`.
    pub fn ends(mut self) -> Summary {
        let mut text = String::new();
        let mut output = self.0.stdout.take().expect("a pipe");
        output.read_to_string(&mut text).expect("it can be read");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("no summary: {error}: {text:?}"))
    }
}

impl Drop for Pressure {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Summary {
    pub fn slowest(&self) -> Duration {
        Duration::from_millis(self.slowest_ms)
    }

    /// From the begin of the first failed request to the end of the last one.
    pub fn outage(&self) -> Duration {
        Duration::from_millis(self.outage_ms)
    }

    pub fn assert_all_answered(&self) {
        assert!(
            self.due > 0 && self.requests * 2 >= self.due,
            "not much was asked: {self:#?}"
        );
        assert_eq!(self.failed, 0, "{self:#?}");
    }
}
