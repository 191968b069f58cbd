//! wrk, bounded in time, started here or inside `transparent-proxy run`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::progress::tail;

/// What `done` of wrk's Lua interface knows, as JSON. The requests themselves
/// stay wrk's own static ones.
const SCRIPT: &str = r#"
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\nRESULT {"requests":%d,"microseconds":%d,"failed":%d,"p50":%.1f,"p99":%.1f}\n',
    summary.requests, summary.duration,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"#;

pub(super) struct Load<'bench> {
    pub(super) wrk: &'bench Path,
    pub(super) folder: &'bench Path,
    pub(super) connections: u32,
    pub(super) seconds: u32,
}

#[derive(Deserialize, Debug)]
pub(super) struct Sample {
    pub(super) requests: u64,
    pub(super) microseconds: u64,
    pub(super) failed: u64,
    pub(super) p50: f64,
    pub(super) p99: f64,
}

/// Who starts the load generator.
pub(super) enum Client {
    Here,
    /// In the hooked cgroup: its address is virtual.
    Inside(Inside),
}

impl Load<'_> {
    pub(super) fn run(&self, target: &str, client: &mut Client, seconds: u32) -> Result<Sample> {
        let script = self.folder.join("wrk.lua");
        fs::write(&script, SCRIPT).context("wrk's script can be written")?;
        let line = format!(
            "'{wrk}' -t1 -c{connections} -d{seconds}s --latency -s '{script}' {target}",
            wrk = self.wrk.display(),
            connections = self.connections,
            script = script.display(),
        );
        let output = match client {
            Client::Here => {
                let output = Command::new("sh")
                    .arg("-c")
                    .arg(&line)
                    .output()
                    .context("wrk starts")?;
                String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
            }
            Client::Inside(inside) => inside.run(&line, &self.folder.join("wrk.out"))?,
        };
        parse(&output)
    }
}

impl Sample {
    pub(super) fn ensure_all_succeeded(&self) -> Result<()> {
        ensure!(
            self.failed == 0,
            "{} of {} requests failed",
            self.failed,
            self.requests
        );
        ensure!(self.requests > 0, "not one request was answered");
        Ok(())
    }
}

fn parse(output: &str) -> Result<Sample> {
    let Some(result) = output.lines().find_map(|line| line.strip_prefix("RESULT ")) else {
        bail!("wrk gave no result:\n{}", tail(output));
    };
    serde_json::from_str(result).context("wrk's result is JSON")
}

/// A shell that is the command of `transparent-proxy run` and executes line
/// by line what it is told, so that one proxy serves all rounds.
pub(super) struct Inside {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

const SHELL: &str = "echo ready; while read -r line; do eval \"$line\"; echo finished; done";

impl Inside {
    /// `run`: the command line up to and including `--`.
    pub(super) fn start(mut run: Command, log: &Path) -> Result<Self> {
        let complaints =
            fs::File::create(log).with_context(|| format!("{} can be written", log.display()))?;
        let mut child = run
            .args(["sh", "-c", SHELL])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(complaints)
            .spawn()
            .context("transparent-proxy run starts")?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("standard output is a pipe")?);
        let mut inside = Self { child, input, output };
        inside
            .wait_for("ready")
            .with_context(|| tail(&fs::read_to_string(log).unwrap_or_default()))?;
        Ok(inside)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn run(&mut self, line: &str, result: &Path) -> Result<String> {
        let input = self.input.as_mut().context("the shell listens")?;
        writeln!(input, "{line} >'{}' 2>&1", result.display()).context("the shell listens")?;
        self.wait_for("finished")?;
        fs::read_to_string(result).context("wrk left its output")
    }

    fn wait_for(&mut self, word: &str) -> Result<()> {
        let mut line = String::new();
        while line.trim() != word {
            line.clear();
            let read = self
                .output
                .read_line(&mut line)
                .context("the shell's output can be read")?;
            ensure!(read > 0, "transparent-proxy run ended before its time");
        }
        Ok(())
    }
}

impl Drop for Inside {
    /// The shell ends at the end of its input, and the proxy with it.
    fn drop(&mut self) {
        self.input.take();
        self.child.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_is_found_between_the_other_lines() {
        let output = "Running 1s test\n\nRESULT {\"requests\":10,\"microseconds\":1000,\"failed\":0,\"p50\":3.0,\"p99\":9.5}\n";
        let sample = parse(output).expect("a result");
        assert_eq!((sample.requests, sample.microseconds), (10, 1000));
    }

    #[test]
    fn without_a_result_the_output_is_shown() {
        let error = parse("unable to connect to my-dest:80\n")
            .expect_err("no result")
            .to_string();
        assert!(error.contains("unable to connect"), "{error}");
    }
}
