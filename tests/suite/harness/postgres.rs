//! A real `PostgreSQL` server, private to one test.

use std::fs::Permissions;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::{Child, Command, Stdio};

use nix::unistd::User;
use tempfile::TempDir;

use super::{peers, wait};

pub struct Postgres {
    child: Child,
    pub address: SocketAddr,
    _folder: TempDir,
}

impl Postgres {
    /// A server on 127.0.0.1 with the superuser `ada` and this password.
    pub fn start(password: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the database");
        // The server refuses to run as root.
        let nobody = User::from_name("nobody")
            .expect("users can be read")
            .expect("nobody exists");
        let own = |path: &std::path::Path| {
            chown(path, Some(nobody.uid.as_raw()), Some(nobody.gid.as_raw())).expect("owner is changed");
        };
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).expect("mode is set");
        let password_file = folder.path().join("password");
        std::fs::write(&password_file, password).expect("the password is written");
        own(folder.path());
        own(&password_file);
        let data = folder.path().join("data");
        let status = as_nobody("initdb")
            .args(["--auth=scram-sha-256", "--username=ada", "--no-sync", "--pwfile"])
            .arg(&password_file)
            .arg("--pgdata")
            .arg(&data)
            .stdout(Stdio::null())
            .status();
        assert!(
            status.expect("initdb starts").success(),
            "initdb makes a database"
        );
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let child = as_nobody("postgres")
            .arg("-D")
            .arg(&data)
            .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-F", "-k"])
            .arg(folder.path())
            .stderr(Stdio::null())
            .spawn()
            .expect("postgres starts");
        wait::until("PostgreSQL accepts connections", || {
            TcpStream::connect(address).is_ok()
        });
        Self {
            child,
            address,
            _folder: folder,
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        wait::terminate(&mut self.child);
    }
}

fn as_nobody(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid=nobody",
            "--regid=nogroup",
            "--clear-groups",
            "--pdeathsig=KILL",
            "--",
        ])
        .arg(peers::path(program))
        .current_dir("/");
    command
}
