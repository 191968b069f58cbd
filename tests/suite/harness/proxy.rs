//! `transparent-proxy run` with destinations of a test.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::certs::Authority;
use super::{binary, wait};

/// A folder of destinations and the options to run with.
pub struct Proxy {
    folder: TempDir,
    options: Vec<String>,
    log: PathBuf,
    log_level: &'static str,
}

impl Proxy {
    /// `test` names the log file of this run.
    pub fn for_test(test: &str) -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder for destinations"),
            options: Vec::new(),
            log: binary::log_folder().join(format!("{test}.log")),
            log_level: "trace",
        }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    pub fn destination(self, name: &str, mut properties: Value) -> Self {
        properties["Name"] = name.into();
        self.file(&format!("{name}.json"), properties.to_string())
    }

    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        std::fs::write(self.folder.path().join(name), content).expect("the file is written");
        self
    }

    /// Puts the authority's certificate where `TrustStoreLocation: ca.crt` finds it.
    pub fn trusting(self, authority: &Authority) -> Self {
        self.file("ca.crt", &authority.certificate_pem)
    }

    /// Logs warnings only: for tests that move much or measure.
    pub fn quiet(mut self) -> Self {
        self.log_level = "warn";
        self
    }

    pub fn option(mut self, option: impl Into<String>) -> Self {
        self.options.push(option.into());
        self
    }

    fn command(&self) -> Command {
        let mut command = binary::command();
        command
            .args(["run", "--log-level", self.log_level, "--log-file"])
            .arg(&self.log)
            .arg("--destinations")
            .arg(self.folder.path())
            .args(&self.options)
            .stdin(Stdio::null());
        command
    }

    /// Runs a command behind the proxy to its end.
    pub fn run<S: AsRef<OsStr>>(&self, application: &[S]) -> Output {
        self.command()
            .arg("--")
            .args(application)
            .output()
            .expect("transparent-proxy starts")
    }

    /// What a command behind the proxy prints; it must succeed.
    pub fn output_of<S: AsRef<OsStr>>(&self, application: &[S]) -> String {
        let output = self.run(application);
        assert!(
            output.status.success(),
            "{}: {}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("the application prints text")
    }

    /// Starts a command behind the proxy that goes on while the test looks on.
    pub fn start<S: AsRef<OsStr>>(&self, application: &[S]) -> Running {
        let child = self
            .command()
            .arg("--")
            .args(application)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("transparent-proxy starts");
        Running(child)
    }
}

pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        wait::terminate(&mut self.0);
    }
}
