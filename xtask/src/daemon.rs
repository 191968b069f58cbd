//! A third-party server, run for as long as this value lives.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::progress::{now, tail};

const START_DEADLINE: Duration = Duration::from_secs(20);
const STOP_DEADLINE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(20);

#[must_use = "the server ends when this is dropped"]
pub(crate) struct Daemon {
    child: Child,
}

impl Daemon {
    /// Starts it and waits until it accepts connections on `port` of 127.0.0.1.
    pub(crate) fn start(name: &str, command: &mut Command, log: &Path, port: u16) -> Result<Self> {
        let output = File::create(log).with_context(|| format!("{} can be written", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("the log can be written twice")?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("{name} starts"))?;
        let mut daemon = Self { child };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let began = now();
        while TcpStream::connect_timeout(&address, LOOK_EVERY).is_err() {
            let ended = daemon.child.try_wait().context("a child can be waited for")?;
            if ended.is_some() || began.elapsed() > START_DEADLINE {
                bail!(
                    "{name} did not start:\n{}",
                    tail(&fs::read_to_string(log).unwrap_or_default())
                );
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(daemon)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Daemon {
    /// SIGTERM first: a killed nginx master would leave its workers behind.
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("process ids fit"));
        let asked = kill(pid, Signal::SIGTERM).is_ok();
        let began = now();
        while asked && began.elapsed() < STOP_DEADLINE {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::sleep(LOOK_EVERY);
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A port that was free a moment ago: third-party servers cannot be told to choose one.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a port can be had")?;
    Ok(listener.local_addr().context("a listener has an address")?.port())
}

/// What an nginx in the foreground needs wherever it is unpacked: the main
/// part of its configuration, writing only below `folder`.
pub(crate) fn nginx_main(folder: &Path, workers: usize) -> String {
    // Workers of root's nginx would run as nobody, who may not read the folder.
    let user = if nix::unistd::geteuid().is_root() {
        "user root;\n"
    } else {
        ""
    };
    let folder = folder.display();
    format!(
        "{user}daemon off;\npid {folder}/nginx.pid;\nerror_log stderr;\nworker_processes {workers};\n\
         events {{ worker_connections 1024; }}\n"
    )
}

/// The paths of temporary files, for the `http` part.
pub(crate) fn nginx_temporary(folder: &Path) -> String {
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let lines = kinds.map(|kind| format!("{kind}_temp_path {};\n", folder.join(kind).display()));
    lines.concat()
}

pub(crate) fn nginx(program: &Path, folder: &Path, configuration: &str) -> Result<Command> {
    let file: PathBuf = folder.join("nginx.conf");
    fs::write(&file, configuration).with_context(|| format!("{} can be written", file.display()))?;
    let mut command = Command::new(program);
    command
        .args(["-e", "stderr"])
        .arg("-p")
        .arg(folder)
        .arg("-c")
        .arg(file);
    Ok(command)
}
