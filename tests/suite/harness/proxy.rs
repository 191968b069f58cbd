//! `transparent-proxy run` with destinations of a test.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tempfile::TempDir;

use super::certs::Authority;
use super::node::Cgroup;
use super::{binary, wait};

/// A folder of destinations and the options to run with.
pub struct Proxy {
    folder: TempDir,
    options: Vec<String>,
    log: PathBuf,
    /// Length of the log before this test; files of earlier runs are appended to.
    log_start: usize,
    log_level: &'static str,
}

impl Proxy {
    /// `test` names the log file of this run.
    pub fn for_test(test: &str) -> Self {
        let log = binary::log_folder().join(format!("{test}.log"));
        Self {
            folder: tempfile::tempdir().expect("a folder for destinations"),
            options: Vec::new(),
            log_start: fs::read(&log).map_or(0, |text| text.len()),
            log,
            log_level: "trace",
        }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What was logged since the test began.
    pub fn log_text(&self) -> String {
        let all = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&all[self.log_start..]).into_owned()
    }

    /// Writes a destination, or writes it anew while the proxy runs.
    pub fn write(&self, name: &str, mut properties: Value) {
        properties["Name"] = name.into();
        self.write_file(&format!("{name}.json"), properties.to_string());
    }

    pub fn write_file(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.folder.path().join(name), content).expect("the file is written");
    }

    pub fn destination(self, name: &str, properties: Value) -> Self {
        self.write(name, properties);
        self
    }

    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.write_file(name, content);
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

/// Without a command: a proxy that serves a cgroup, until it is stopped.
pub struct Serving {
    child: Child,
    /// Every line of the tables that it has printed.
    lines: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Serves the threads of a cgroup. Started in the namespace of the calling thread.
    pub fn serve(&self, cgroup: &Cgroup) -> Serving {
        let mut command = self.command();
        if !self.options.iter().any(|option| option == "--virtual-ips") {
            // Not the default: where somebody serves the whole machine from that, nothing is
            // refused after the end of this one.
            command.args(["--virtual-ips", "127.99.0.0/16"]);
        }
        let mut child = command
            .arg("--cgroup")
            .arg(cgroup.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("transparent-proxy starts");
        let output = BufReader::new(child.stdout.take().expect("its output is piped"));
        let lines = Arc::default();
        let serving = Serving {
            child,
            lines: Arc::clone(&lines),
        };
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        // It is printed when connections are redirected.
        wait::until("the proxy prints its table", || !serving.table().is_empty());
        serving
    }
}

impl Serving {
    /// The lines of the newest table, without its head.
    pub fn table(&self) -> Vec<String> {
        let lines = self.lines.lock().unwrap();
        let head = lines.iter().rposition(|line| line.starts_with("NAME "));
        head.map_or_else(Vec::new, |head| lines[head + 1..].to_vec())
    }

    /// Virtual IP and port of a destination, as soon as a table has it.
    pub fn address(&self, name: &str) -> SocketAddr {
        let mut found = None;
        wait::until("the destination is in the table", || {
            found = self.row(name);
            found.is_some()
        });
        let row = found.expect("it was waited for");
        let fields: Vec<&str> = row.split_whitespace().collect();
        let ip: IpAddr = fields[1].parse().expect("an address");
        SocketAddr::new(ip, fields[2].parse().expect("a port"))
    }

    /// The line of a destination.
    pub fn row(&self, name: &str) -> Option<String> {
        let mut table = self.table().into_iter();
        table.find(|line| line.split_whitespace().next() == Some(name))
    }

    /// SIGTERM, without waiting for what follows.
    pub fn ask_to_stop(&self) {
        wait::ask_to_stop(&self.child);
    }

    /// Waits for the end that was asked for.
    pub fn ended(mut self) -> ExitStatus {
        wait::exit(&mut self.child)
    }

    pub fn stop(self) -> ExitStatus {
        self.ask_to_stop();
        self.ended()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        wait::terminate(&mut self.child);
    }
}

pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        wait::terminate(&mut self.0);
    }
}
