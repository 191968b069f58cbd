//! nginx over TLS that answers only who knows the password.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::daemon::{self, Daemon};
use crate::peers::Peers;
use crate::shell::output;

pub(super) struct Server {
    _nginx: Daemon,
    port: u16,
    authority: PathBuf,
}

impl Server {
    pub(super) fn start(folder: &Path, peers: &Peers, user: &str, password: &str) -> Result<Self> {
        let openssl = peers.program("openssl")?;
        let authority = certificate(folder, openssl)?;
        fs::write(
            folder.join("users"),
            format!("{user}:{}\n", hash(openssl, password)?),
        )
        .context("users")?;
        fs::create_dir(folder.join("site")).context("a folder for the page")?;
        fs::write(
            folder.join("site/hello"),
            "Hello! You came in with the right password.\n",
        )
        .context("a page")?;
        let port = daemon::free_port()?;
        let mut command = daemon::nginx(peers.program("nginx")?, folder, &nginx_conf(folder, port))?;
        let nginx = Daemon::start("nginx", &mut command, &folder.join("nginx.log"), port)?;
        Ok(Self {
            _nginx: nginx,
            port,
            authority,
        })
    }

    pub(super) fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// The certificate to trust.
    pub(super) fn authority(&self) -> &Path {
        &self.authority
    }
}

/// An authority, and the server's certificate signed by it.
fn certificate(folder: &Path, openssl: &Path) -> Result<PathBuf> {
    let file = |name: &str| folder.join(name);
    let new_key = [
        "req",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ];
    let run = |arguments: &[&str], files: &[(&str, PathBuf)]| {
        let files = files
            .iter()
            .flat_map(|(option, path)| [OsStr::new(*option), path.as_os_str()]);
        output(Command::new(openssl).args(arguments).args(files))
    };
    let names = "subjectAltName=DNS:localhost\n";
    fs::write(file("names"), names).context("the names can be written")?;
    run(
        &[
            &new_key[..],
            &["-x509", "-days", "1", "-subj", "/CN=demo authority"],
        ]
        .concat(),
        &[
            ("-keyout", file("authority.key")),
            ("-out", file("authority.pem")),
        ],
    )?;
    run(
        &[&new_key[..], &["-subj", "/CN=localhost"]].concat(),
        &[("-keyout", file("server.key")), ("-out", file("server.csr"))],
    )?;
    run(
        &["x509", "-req", "-days", "1", "-CAcreateserial"],
        &[
            ("-in", file("server.csr")),
            ("-CA", file("authority.pem")),
            ("-CAkey", file("authority.key")),
            ("-extfile", file("names")),
            ("-out", file("server.pem")),
        ],
    )?;
    Ok(file("authority.pem"))
}

/// By standard input: arguments are visible to every user of the machine.
fn hash(openssl: &Path, password: &str) -> Result<String> {
    let mut child = Command::new(openssl)
        .args(["passwd", "-apr1", "-stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("openssl starts")?;
    let mut input = child.stdin.take().context("standard input is a pipe")?;
    input
        .write_all(password.as_bytes())
        .context("openssl reads the password")?;
    drop(input);
    let output = child.wait_with_output().context("openssl ends")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn nginx_conf(folder: &Path, port: u16) -> String {
    let main = daemon::nginx_main(folder, 1);
    let temporary = daemon::nginx_temporary(folder);
    let folder = folder.display();
    format!(
        "{main}http {{\naccess_log off;\n{temporary}server {{\n\
         listen 127.0.0.1:{port} ssl;\nssl_certificate {folder}/server.pem;\n\
         ssl_certificate_key {folder}/server.key;\nauth_basic \"demo\";\n\
         auth_basic_user_file {folder}/users;\nroot {folder}/site;\n}}\n}}\n"
    )
}
