//! The proxies in their fair settings: same workers, keep-alive to the
//! upstream, no access log, the credential added to every request.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::cpu::Processes;
use super::load::{Client, Inside};
use crate::daemon::{self, Daemon};
use crate::peers::Peer;
use crate::shell;
use crate::shell::as_root;

const USER: &str = "bench";
const PASSWORD: &str = "bench-password";
/// base64 of `USER:PASSWORD`
const CREDENTIAL: &str = "Basic YmVuY2g6YmVuY2gtcGFzc3dvcmQ=";
/// Linux cuts names of processes after 15 bytes.
const OUR_PROCESS_NAME: &str = "transparent-pro";
pub(super) const OURS: &str = "transparent-proxy";
/// References, not peers: a bare forwarder, and no proxy at all.
pub(super) const BARE: &str = "bare-hyper";
pub(super) const DIRECT: &str = "direct";

pub(super) struct Setting<'bench> {
    pub(super) folder: &'bench Path,
    pub(super) upstream: u16,
    pub(super) workers: u32,
}

pub(super) struct Proxy {
    pub(super) name: &'static str,
    pub(super) version: String,
    /// What the load generator is told: options if any, and the URL.
    pub(super) target: String,
    pub(super) client: Client,
    pub(super) processes: Processes,
    /// Held to keep it running.
    _daemon: Option<Daemon>,
}

impl Setting<'_> {
    fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        fs::create_dir(&folder).with_context(|| format!("{} can be made", folder.display()))?;
        Ok(folder)
    }
}

/// Refuses what comes without the credential, so that a proxy that does less
/// than its job cannot win.
pub(super) fn upstream_conf(folder: &Path, port: u16, workers: u32) -> String {
    let main = daemon::nginx_main(folder, workers as usize);
    let temporary = daemon::nginx_temporary(folder);
    format!(
        "{main}http {{\naccess_log off;\n{temporary}keepalive_requests 1000000000;\nserver {{\n\
         listen 127.0.0.1:{port};\nif ($http_authorization != \"{CREDENTIAL}\") {{ return 401; }}\n\
         location / {{ return 200 \"a short answer, as an API gives it\\n\"; }}\n}}\n}}\n"
    )
}

pub(super) fn ours(binary: &Path, setting: &Setting<'_>) -> Result<Proxy> {
    let folder = setting.folder("ours")?;
    let destinations = folder.join("destinations");
    fs::create_dir(&destinations).context("a folder for the destination")?;
    let destination = format!(
        "Name: bench-dest\nType: HTTP\nURL: http://127.0.0.1:{}\nProxyType: Internet\n\
         Authentication: BasicAuthentication\nUser: {USER}\nPassword: {PASSWORD}\n",
        setting.upstream
    );
    fs::write(destinations.join("bench-dest.yaml"), destination).context("the destination can be written")?;
    let mut command = as_root(binary);
    command.env("TOKIO_WORKER_THREADS", setting.workers.to_string());
    command
        .arg("run")
        .arg("--destinations")
        .arg(&destinations)
        .arg("--");
    let inside = Inside::start(command, &folder.join("log"))?;
    Ok(Proxy {
        name: OURS,
        version: shell::version(binary, "--version").unwrap_or_default(),
        target: "http://bench-dest/".into(),
        processes: Processes::Named {
            root: inside.pid(),
            name: OUR_PROCESS_NAME,
        },
        client: Client::Inside(inside),
        _daemon: None,
    })
}

pub(super) fn direct(setting: &Setting<'_>) -> Proxy {
    Proxy {
        name: DIRECT,
        version: String::new(),
        // Without a proxy nobody adds the credential but the client itself.
        target: format!(
            "-H 'Authorization: {CREDENTIAL}' http://127.0.0.1:{}/",
            setting.upstream
        ),
        client: Client::Here,
        processes: Processes::None,
        _daemon: None,
    }
}

pub(super) fn nginx(peer: &Peer, setting: &Setting<'_>) -> Result<Proxy> {
    let folder = setting.folder("nginx")?;
    let port = daemon::free_port()?;
    let main = daemon::nginx_main(&folder, setting.workers as usize);
    let temporary = daemon::nginx_temporary(&folder);
    let configuration = format!(
        "{main}http {{\naccess_log off;\n{temporary}keepalive_requests 1000000000;\n\
         upstream target {{ server 127.0.0.1:{upstream}; keepalive 128; keepalive_requests 1000000000; }}\n\
         server {{\nlisten 127.0.0.1:{port};\nlocation / {{\nproxy_pass http://target;\n\
         proxy_http_version 1.1;\nproxy_set_header Connection \"\";\n\
         proxy_set_header Authorization \"{CREDENTIAL}\";\n}}\n}}\n}}\n",
        upstream = setting.upstream,
    );
    let command = daemon::nginx(&peer.program, &folder, &configuration)?;
    started("nginx", peer, &folder, port, command)
}

pub(super) fn haproxy(peer: &Peer, setting: &Setting<'_>) -> Result<Proxy> {
    let folder = setting.folder("haproxy")?;
    let port = daemon::free_port()?;
    let configuration = format!(
        "global\n  nbthread {workers}\n  maxconn 4096\ndefaults\n  mode http\n  timeout connect 5s\n\
         \x20 timeout client 30s\n  timeout server 30s\n  http-reuse always\nlisten bench\n\
         \x20 bind 127.0.0.1:{port}\n  http-request set-header Authorization \"{CREDENTIAL}\"\n\
         \x20 server target 127.0.0.1:{upstream}\n",
        workers = setting.workers,
        upstream = setting.upstream,
    );
    let file = folder.join("haproxy.cfg");
    fs::write(&file, configuration).context("haproxy.cfg can be written")?;
    let mut command = Command::new(&peer.program);
    command.arg("-db").arg("-f").arg(file);
    started("haproxy", peer, &folder, port, command)
}

pub(super) fn envoy(peer: &Peer, setting: &Setting<'_>) -> Result<Proxy> {
    let folder = setting.folder("envoy")?;
    let port = daemon::free_port()?;
    let text = include_str!("envoy.yaml")
        .replace("@PORT@", &port.to_string())
        .replace("@UPSTREAM@", &setting.upstream.to_string())
        .replace("@CREDENTIAL@", CREDENTIAL);
    let file = folder.join("envoy.yaml");
    fs::write(&file, text).context("envoy.yaml can be written")?;
    let mut command = Command::new(&peer.program);
    command.args(["--log-level", "error", "--disable-hot-restart", "--concurrency"]);
    command
        .arg(setting.workers.to_string())
        .arg("--config-path")
        .arg(file);
    started("envoy", peer, &folder, port, command)
}

/// Started by hand: it is ours to build, not a peer to look for.
pub(super) fn bare_hyper(program: &Path, setting: &Setting<'_>) -> Result<Proxy> {
    let folder = setting.folder("bare-hyper")?;
    let port = daemon::free_port()?;
    let mut command = Command::new(program);
    command.env("TOKIO_WORKER_THREADS", setting.workers.to_string());
    command.args([
        port.to_string(),
        setting.upstream.to_string(),
        CREDENTIAL.to_owned(),
    ]);
    let peer = Peer {
        program: program.to_owned(),
        version: "hyper as locked".into(),
    };
    started(BARE, &peer, &folder, port, command)
}

fn started(name: &'static str, peer: &Peer, folder: &Path, port: u16, mut command: Command) -> Result<Proxy> {
    let daemon = Daemon::start(name, &mut command, &folder.join("log"), port)?;
    Ok(Proxy {
        name,
        version: peer.version.clone(),
        target: format!("http://127.0.0.1:{port}/"),
        client: Client::Here,
        processes: Processes::Tree { root: daemon.pid() },
        _daemon: Some(daemon),
    })
}
