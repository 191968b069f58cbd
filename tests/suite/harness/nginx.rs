//! A real nginx, private to one test.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::certs::Authority;
use super::{peers, wait};

pub struct Nginx {
    child: Child,
    pub address: SocketAddr,
    folder: TempDir,
}

impl Nginx {
    /// An `https://` server on 127.0.0.1 (certificate for `localhost` and 127.0.0.1), which answers
    /// `200 welcome` to whoever sends this `Authorization` and 401 to everybody else.
    pub fn that_demands(authorization: &str, authority: &Authority) -> Self {
        Self::start(Ipv4Addr::LOCALHOST, authority, &demand(authorization), None)
    }

    /// Like `that_demands`, inside a network namespace given by its file.
    pub fn that_demands_in(
        namespace: &Path,
        address: Ipv4Addr,
        authorization: &str,
        authority: &Authority,
    ) -> Self {
        Self::start(address, authority, &demand(authorization), Some(namespace))
    }

    /// Answers `200 welcome CN` to whoever shows a client certificate of this authority.
    pub fn that_demands_a_client_certificate(authority: &Authority) -> Self {
        let rules = "ssl_client_certificate ca.crt; ssl_verify_client on;\n\
                     location / { return 200 \"welcome $ssl_client_s_dn\\n\"; }";
        Self::start(Ipv4Addr::LOCALHOST, authority, rules, None)
    }

    fn start(address: Ipv4Addr, authority: &Authority, rules: &str, namespace: Option<&Path>) -> Self {
        let folder = tempfile::tempdir().expect("a folder for nginx");
        let port = free_port();
        let listen = SocketAddr::from((address, port));
        std::fs::write(folder.path().join("ca.crt"), &authority.certificate_pem).expect("the CA is written");
        authority
            .server(&["localhost", &address.to_string()])
            .write(folder.path(), "server");
        std::fs::write(folder.path().join("nginx.conf"), configuration(listen, rules))
            .expect("nginx.conf is written");
        let child = command(namespace)
            .args([
                "-p",
                &folder.path().display().to_string(),
                "-c",
                "nginx.conf",
                "-e",
                "stderr",
            ])
            .stdin(Stdio::null())
            .spawn()
            .expect("nginx starts");
        let nginx = Self {
            child,
            address: listen,
            folder,
        };
        wait::until("nginx has opened its pid file", || {
            nginx.folder.path().join("nginx.pid").exists()
        });
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        wait::terminate(&mut self.child);
    }
}

fn demand(authorization: &str) -> String {
    format!(
        "location / {{\n  if ($http_authorization != \"{authorization}\") {{ return 401 \"who are you?\\n\"; }}\n  return 200 \"welcome\\n\";\n}}"
    )
}

fn command(namespace: Option<&Path>) -> Command {
    let nginx = peers::path("nginx");
    match namespace {
        None => Command::new(nginx),
        Some(namespace) => {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net={}", namespace.display())).arg(nginx);
            command
        }
    }
}

fn configuration(listen: SocketAddr, rules: &str) -> String {
    format!(
        "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr warn;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n\
           access_log off; client_body_temp_path body; proxy_temp_path proxy;\n\
           fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
           server {{\n\
             listen {listen} ssl http2;\n\
             ssl_certificate server.crt; ssl_certificate_key server.key;\n\
             {rules}\n\
           }}\n\
         }}\n"
    )
}

/// A port nobody listens on at the moment; the kernel does not hand it out again soon.
fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port()
}
