//! The hook proves itself: a child process in the hooked cgroup connects to an address
//! that only this process knows, and that leads nowhere unless it is redirected.
//!
//! This catches what a successful attach does not: a cgroup that was removed and made
//! again, a program of somebody else in front of ours, a path that is another cgroup
//! than the one in use.

use std::ffi::OsString;
use std::io::{BufRead, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tracing::debug;
use uuid::Uuid;

use super::NamespaceNumber;
use super::cgroup::{self, OwnCgroup};
use super::virtual_ips::{VirtualIpError, VirtualIps};

/// The hidden sub-command that runs [`probe_main`].
pub const PROBE_COMMAND: &str = "__probe";

/// A local connect takes microseconds and starting a process milliseconds; the rest is
/// for machines under load.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    #[error(
        "connections from {} are not redirected: the hook is gone, or another program comes before it ({said})",
        .place.as_ref().map_or("this cgroup".into(), |path| path.display().to_string())
    )]
    NotRedirected { place: Option<PathBuf>, said: String },
    #[error("the self test took longer than {} s", PATIENCE.as_secs())]
    Deadline,
    #[error("the self test cannot use the hooked cgroup; was it removed?")]
    Cgroup(#[from] cgroup::Error),
    #[error("the self test cannot enter its address")]
    VirtualIp(#[from] VirtualIpError),
    #[error("the self test cannot {step}")]
    Io {
        step: &'static str,
        #[source]
        source: std::io::Error,
    },
}

/// Repeats the proof whenever asked; how often is the caller's business.
#[derive(Debug)]
pub struct SelfTest {
    virtual_ips: VirtualIps,
    cgroup: Option<PathBuf>,
    program: OsString,
}

impl SelfTest {
    /// `cgroup` is the hooked one, into which the child is moved; `None` if this process
    /// is in it itself and may not move anybody.
    pub fn new(virtual_ips: VirtualIps, cgroup: Option<PathBuf>) -> Self {
        Self {
            virtual_ips,
            cgroup,
            program: "/proc/self/exe".into(),
        }
    }

    /// Takes the hidden sub-command of another executable: tests are none that has it.
    #[must_use]
    pub fn with_program(self, program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            ..self
        }
    }

    /// One round: `Ok` if the hook did its work.
    pub async fn run_once(&self) -> Result<(), SelfTestError> {
        timeout(PATIENCE, self.prove())
            .await
            .map_err(|_elapsed| SelfTestError::Deadline)?
    }

    async fn prove(&self) -> Result<(), SelfTestError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(io("listen"))?;
        let proxy = listener.local_addr().map_err(io("listen"))?;
        let secret = SecretAddress::enter(&self.virtual_ips, proxy)?;
        let token = Uuid::new_v4().to_string();
        let (mut child, place) = self.start(secret.address, &token).await?;
        tokio::select! {
            accepted = expect(&listener, &token) => accepted.map_err(io("accept"))?,
            said = failure(&mut child) => {
                return Err(SelfTestError::NotRedirected { place: self.cgroup.clone(), said });
            }
        }
        // Nobody of ours stays in the cgroup, or it could not be removed.
        child.wait().await.map_err(io("wait for its child"))?;
        if let Some(place) = place
            && let Err(error) = place.remove(PATIENCE).await
        {
            debug!(%error, "a cgroup of the self test stays");
        }
        Ok(())
    }

    /// The address goes by standard input, not among the arguments that everybody can
    /// read; and the child waits for it, so it is in its cgroup before it connects.
    async fn start(
        &self,
        address: SocketAddr,
        token: &str,
    ) -> Result<(Child, Option<OwnCgroup>), SelfTestError> {
        let mut child = Command::new(&self.program)
            .arg(PROBE_COMMAND)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(io("start its child"))?;
        let place = match (&self.cgroup, child.id()) {
            (Some(cgroup), Some(process)) => enter(cgroup, process)?,
            _ => None,
        };
        let mut input = child.stdin.take().expect("it was asked for above");
        input
            .write_all(format!("{address} {token}\n").as_bytes())
            .await
            .map_err(io("talk to its child"))?;
        Ok((child, place))
    }
}

/// Moves the child, if need be into a cgroup made for it below: what has controllers for its
/// children, as slices of systemd do, has no processes itself ("no internal processes" in cgroups(7)).
fn enter(cgroup: &Path, process: u32) -> Result<Option<OwnCgroup>, cgroup::Error> {
    match cgroup::add(cgroup, process) {
        Err(error) if error.is_busy() => {
            let below = OwnCgroup::create(cgroup, &format!("self-test-{process}"))?;
            below.add(process)?;
            Ok(Some(below))
        }
        moved => moved.map(|()| None),
    }
}

/// Until the connection with the token arrives; others may knock as well.
async fn expect(listener: &TcpListener, token: &str) -> std::io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let mut said = String::new();
        let length = token.len() as u64;
        let read = timeout(
            Duration::from_secs(1),
            stream.take(length).read_to_string(&mut said),
        )
        .await;
        if matches!(read, Ok(Ok(_))) && said == token {
            return Ok(());
        }
    }
}

/// What the child says when it failed; if it did not, the listener knows.
async fn failure(child: &mut Child) -> String {
    const ENOUGH: u64 = 500;
    let mut said = Vec::new();
    if let Some(errors) = &mut child.stderr {
        // What cannot be read is not worth a second error.
        let _ = errors.take(ENOUGH).read_to_end(&mut said).await;
    }
    if child.wait().await.is_ok_and(|status| status.success()) {
        std::future::pending::<()>().await;
    }
    String::from_utf8_lossy(&said).trim_end().to_owned()
}

/// A random address of 127/8: if nothing redirects it, it does not leave the machine.
struct SecretAddress<'a> {
    table: &'a VirtualIps,
    address: SocketAddr,
}

impl<'a> SecretAddress<'a> {
    fn enter(table: &'a VirtualIps, proxy: SocketAddr) -> Result<Self, VirtualIpError> {
        // Not 127.0/16, where real listeners are, nor a virtual IP that is in use.
        let address = loop {
            let ip = Ipv4Addr::new(
                127,
                fastrand::u8(128..=254),
                fastrand::u8(..),
                fastrand::u8(1..=254),
            );
            if !table.contains(ip.into()) {
                break SocketAddr::new(ip.into(), fastrand::u16(1024..));
            }
        };
        table.insert(address, proxy, NamespaceNumber::NONE)?;
        Ok(Self { table, address })
    }
}

impl Drop for SecretAddress<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.table.remove(self.address) {
            tracing::warn!(%error, "the address of the self test stays in the table");
        }
    }
}

/// The child: reads address and token from standard input, connects, says the token.
pub fn probe_main() -> ExitCode {
    match probe() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn probe() -> std::io::Result<()> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let invalid = || std::io::Error::from(std::io::ErrorKind::InvalidInput);
    let (address, token) = line.trim_end().split_once(' ').ok_or_else(invalid)?;
    let address = address.parse().map_err(|_malformed| invalid())?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.write_all(token.as_bytes())
}

fn io(step: &'static str) -> impl FnOnce(std::io::Error) -> SelfTestError {
    move |source| SelfTestError::Io { step, source }
}
