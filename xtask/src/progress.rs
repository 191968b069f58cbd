//! What a person sees while a task works: step n of m, elapsed time, and the
//! end of the output when something fails. Quiet otherwise.

use std::fs::{self, File};
use std::io::{IsTerminal, Write, stdout};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::workspace;

const TAIL_LINES: usize = 60;
const REDRAW_EVERY: Duration = Duration::from_millis(250);
/// Where nobody sees a clock run, a line now and then tells that work goes on.
const SIGN_OF_LIFE_EVERY: Duration = Duration::from_mins(1);

pub(crate) struct Progress {
    task: &'static str,
    step: usize,
    of: usize,
    began: Instant,
    terminal: bool,
}

impl Progress {
    pub(crate) fn new(task: &'static str, steps: usize) -> Self {
        Self {
            task,
            step: 0,
            of: steps,
            began: now(),
            terminal: stdout().is_terminal(),
        }
    }

    /// Announces a step that reports its own progress, or none.
    pub(crate) fn step(&mut self, what: &str) {
        self.step += 1;
        println!("{} {what}", self.label());
    }

    /// A step that is one command: silent unless it fails.
    pub(crate) fn command(&mut self, what: &str, command: &mut Command) -> Result<()> {
        self.step += 1;
        self.quietly(what, command)
    }

    /// Further commands of the same step.
    pub(crate) fn quietly(&self, what: &str, command: &mut Command) -> Result<()> {
        let began = now();
        let log = self.log_file(what)?;
        let output = File::create(&log).with_context(|| format!("{} can be written", log.display()))?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("the log can be written twice")?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("{} starts", command.get_program().display()))?;
        let mut last_sign = began;
        if !self.terminal {
            println!("{} {what}", self.label());
        }
        let status = loop {
            if let Some(status) = child.try_wait().context("the command can be waited for")? {
                break status;
            }
            self.redraw(what, began, &mut last_sign);
            thread::sleep(REDRAW_EVERY);
        };
        self.finish_line(what, status.success(), began);
        if status.success() {
            return Ok(());
        }
        println!("{}", tail(&fs::read_to_string(&log).unwrap_or_default()));
        bail!("{what}: {status}; the whole output is in {}", log.display())
    }

    pub(crate) fn done(&self) {
        println!("{}: done in {}", self.task, elapsed(self.began));
    }

    fn label(&self) -> String {
        format!("[{}/{}]", self.step, self.of)
    }

    fn redraw(&self, what: &str, began: Instant, last_sign: &mut Instant) {
        if self.terminal {
            print!("\r\x1b[K{} {what} … {}", self.label(), elapsed(began));
            stdout().flush().ok();
        } else if last_sign.elapsed() >= SIGN_OF_LIFE_EVERY {
            *last_sign = now();
            println!("{} {what}: still at it after {}", self.label(), elapsed(began));
        }
    }

    fn finish_line(&self, what: &str, success: bool, began: Instant) {
        let start = if self.terminal { "\r\x1b[K" } else { "" };
        let verdict = if success { "done in" } else { "FAILED after" };
        println!("{start}{} {what}: {verdict} {}", self.label(), elapsed(began));
    }

    fn log_file(&self, what: &str) -> Result<PathBuf> {
        let folder = workspace::target().join("xtask-logs");
        fs::create_dir_all(&folder).with_context(|| format!("{} can be made", folder.display()))?;
        let name: String = what
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        Ok(folder.join(format!("{}-{}-{name}.log", self.task, self.step)))
    }
}

pub(crate) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[expect(
    clippy::disallowed_methods,
    reason = "no runtime here whose clock a test could pause"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

fn elapsed(since: Instant) -> String {
    match since.elapsed().as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_end_of_the_output() {
        let text = (0..100)
            .map(|n| format!("line {n}"))
            .collect::<Vec<_>>()
            .join("\n");
        let tail = tail(&text);
        assert_eq!(tail.lines().count(), TAIL_LINES);
        assert!(tail.ends_with("line 99"));
    }

    #[test]
    fn a_short_output_is_its_own_tail() {
        assert_eq!(tail("one\ntwo"), "one\ntwo");
    }
}
