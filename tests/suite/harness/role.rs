//! A role on Kubernetes as a process of its own, with what its pod would give it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{binary, tcp, wait};

pub const NAMESPACE: &str = "transparent-proxy";

/// Options for a role that is about to start.
pub struct Role {
    command: Command,
    options: BTreeMap<&'static str, OsString>,
    folder: TempDir,
    pub probes: SocketAddr,
    pub metrics: SocketAddr,
    has_metrics: bool,
    log: PathBuf,
}

impl Role {
    /// `name` is the test's, for the file with the log.
    pub fn new(role: &str, name: &str, settings: &Value) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("config.json");
        std::fs::write(&config, settings.to_string()).expect("settings");
        let (probes, metrics) = (tcp::nobody(), tcp::nobody());
        let mut command = binary::command();
        command.arg(role).stdin(Stdio::null()).stdout(Stdio::piped());
        // Unless a test says otherwise, the API server is away.
        command.env("KUBECONFIG", away(folder.path()));
        let options = [
            ("--config", config.into()),
            ("--namespace", NAMESPACE.into()),
            ("--pod", "this-pod".into()),
            ("--probes", probes.to_string().into()),
            ("--metrics", metrics.to_string().into()),
            ("--logging", folder.path().into()),
        ];
        Self {
            command,
            options: options.into(),
            folder,
            probes,
            metrics,
            has_metrics: settings["metrics"]["enabled"] == true,
            log: binary::log_folder().join(format!("{name}.log")),
        }
    }

    /// Instead of what it had before.
    pub fn option(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.options.insert(name, value.into());
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Starts it and waits until its probes answer, and its metrics, if it has any.
    pub fn start(self) -> Running {
        let metrics = self.has_metrics.then_some(self.metrics);
        let addresses: Vec<SocketAddr> = metrics.into_iter().chain([self.probes]).collect();
        let running = self.spawn();
        let served = |address: &SocketAddr| TcpStream::connect(address).is_ok();
        wait::until("the probes are served", || addresses.iter().all(served));
        running
    }

    pub fn spawn(mut self) -> Running {
        for (name, value) in &self.options {
            self.command.arg(name).arg(value);
        }
        let mut child = self.command.spawn().expect("transparent-proxy starts");
        let lines = Arc::default();
        let output = child.stdout.take().expect("its output is piped");
        let log = File::create(&self.log).expect("a file for the log");
        let reader = std::thread::spawn({
            let lines = Arc::clone(&lines);
            move || keep(output, log, &lines)
        });
        Running {
            child,
            lines,
            reader: Some(reader),
            role: self,
        }
    }
}

fn away(folder: &Path) -> PathBuf {
    let path = folder.join("kubeconfig");
    let server = format!("http://{}", tcp::nobody());
    let text = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "away", "cluster": {"server": server}}],
        "users": [{"name": "nobody", "user": {"token": "s3cr3t-of-nobody"}}],
        "contexts": [{"name": "away", "context": {"cluster": "away", "user": "nobody"}}],
        "current-context": "away",
    });
    std::fs::write(&path, text.to_string()).expect("a kubeconfig");
    path
}

fn keep(output: ChildStdout, mut log: File, lines: &Mutex<Vec<String>>) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        writeln!(log, "{line}").expect("the log is kept");
        lines.lock().unwrap().push(line);
    }
}

/// A role that runs; it ends with the test.
pub struct Running {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<std::thread::JoinHandle<()>>,
    role: Role,
}

impl Running {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where the file for the log level is.
    pub fn folder(&self) -> &Path {
        self.role.folder.path()
    }

    pub fn probes(&self) -> SocketAddr {
        self.role.probes
    }

    pub fn metrics(&self) -> SocketAddr {
        self.role.metrics
    }

    /// What it has logged so far; every line has to be an object.
    pub fn log(&self) -> Vec<Value> {
        let lines = self.lines.lock().unwrap();
        let object =
            |line: &String| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        lines.iter().map(object).collect()
    }

    /// Waits for a line of the log.
    pub fn line(&self, what: &str, is_meant: impl Fn(&Value) -> bool) -> Value {
        let mut found = None;
        wait::until(what, || {
            found = self.log().into_iter().find(&is_meant);
            found.is_some()
        });
        found.expect("it was waited for")
    }

    /// The end that comes by itself, or was asked for; then the log is complete.
    pub fn ended(&mut self) -> ExitStatus {
        let status = wait::exit(&mut self.child);
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the log was kept");
        }
        status
    }

    pub fn stop(&mut self) -> ExitStatus {
        wait::ask_to_stop(&self.child);
        self.ended()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        wait::terminate(&mut self.child);
    }
}
