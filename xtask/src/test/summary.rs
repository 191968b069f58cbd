//! Reads the closing lines of test runners.

use std::fmt;

#[derive(Default, Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) struct Summary {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Summary {
    /// Adds what one line of a runner's output says, if it is a closing line:
    /// `test result: ok. 3 passed; 0 failed; 1 ignored; …` (cargo test) or
    /// `Summary [ 1.2s] 4 tests run: 3 passed, 1 failed, 0 skipped` (nextest).
    pub(crate) fn read(&mut self, line: &str) {
        let line = line.trim_start();
        if !line.starts_with("test result:") && !line.starts_with("Summary [") {
            return;
        }
        self.passed += number_before(line, "passed");
        self.failed += number_before(line, "failed");
        self.skipped += number_before(line, "ignored") + number_before(line, "skipped");
    }

    /// A runner that failed without a failed test (it crashed, or did not
    /// compile) counts as one.
    pub(crate) fn with_status(mut self, success: bool) -> Self {
        if !success && self.failed == 0 {
            self.failed = 1;
        }
        self
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

fn number_before(line: &str, word: &str) -> u64 {
    let words: Vec<&str> = line
        .split([' ', ',', ';', '.'])
        .filter(|word| !word.is_empty())
        .collect();
    let at = words.iter().position(|candidate| *candidate == word);
    at.and_then(|at| words.get(at.checked_sub(1)?)?.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Summary {
        let mut summary = Summary::default();
        text.lines().for_each(|line| summary.read(line));
        summary
    }

    #[test]
    fn all_binaries_of_cargo_test_add_up() {
        let text = "test a ... ok\n\
            test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
            test result: FAILED. 2 passed; 4 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s\n";
        assert_eq!(
            read(text),
            Summary {
                passed: 5,
                failed: 4,
                skipped: 1
            }
        );
    }

    #[test]
    fn the_summary_of_nextest_counts() {
        let text = "     Summary [   1.234s] 7 tests run: 5 passed, 2 failed, 1 skipped\n";
        assert_eq!(
            read(text),
            Summary {
                passed: 5,
                failed: 2,
                skipped: 1
            }
        );
    }

    #[test]
    fn a_runner_that_crashed_counts_as_a_failure() {
        assert_eq!(Summary::default().with_status(false).failed, 1);
        assert_eq!(
            Summary {
                failed: 2,
                ..Summary::default()
            }
            .with_status(false)
            .failed,
            2
        );
    }

    #[test]
    fn the_closing_line_is_plain() {
        assert_eq!(
            Summary {
                passed: 12,
                failed: 0,
                skipped: 0
            }
            .to_string(),
            "12 passed, 0 failed"
        );
        assert_eq!(
            Summary {
                passed: 12,
                failed: 1,
                skipped: 2
            }
            .to_string(),
            "12 passed, 1 failed, 2 skipped"
        );
    }
}
