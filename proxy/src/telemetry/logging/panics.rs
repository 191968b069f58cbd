//! Panics among the lines of the log, in its format: whoever reads a log by program reads every line.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};

use tracing::error;

/// From now on a panic is a line of the log.
pub(super) fn log() {
    panic::set_hook(Box::new(tell));
}

fn tell(panic: &PanicHookInfo<'_>) {
    let backtrace = Backtrace::capture();
    error!(
        thread = std::thread::current().name(),
        location = panic.location().map(tracing::field::display),
        // Where RUST_BACKTRACE asks for it.
        backtrace =
            (backtrace.status() == BacktraceStatus::Captured).then(|| tracing::field::display(&backtrace)),
        "panic: {}",
        panic.payload_as_str().unwrap_or("without words")
    );
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::super::{Config, Format, Output, init};

    const CHILD: &str = "telemetry::logging::panics::tests::child";

    /// Logging is the whole process's.
    #[test]
    #[ignore = "the process of the test below"]
    fn child() {
        init(&Config {
            format: Format::Json,
            output: Output::StandardOutput,
            ..Config::default()
        })
        .unwrap();
        let panicking = std::thread::Builder::new().name("worker".into());
        let panicked = panicking.spawn(|| panic!("on purpose")).unwrap();
        assert!(panicked.join().is_err());
    }

    #[test]
    fn a_panic_is_a_line_of_json() {
        let program = std::env::current_exe().unwrap();
        let output = Command::new(program)
            .args(["--exact", CHILD, "--ignored", "--nocapture", "--quiet"])
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let line = said.lines().find(|line| line.starts_with('{')).expect("a line");
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["msg"], "panic: on purpose");
        assert_eq!(
            (&line["level"], &line["thread"]),
            (&"error".into(), &"worker".into())
        );
        assert!(
            line["location"].as_str().unwrap().contains("panics.rs:"),
            "{line}"
        );
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(!errors.contains("on purpose"), "{errors}");
    }
}
