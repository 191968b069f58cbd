//! The hook proves itself: a child process in the hooked cgroup connects to an address
//! that only this process knows, and that leads nowhere unless it is redirected.
//!
//! This catches what a successful attach does not: a cgroup that was removed and made
//! again, a program of somebody else in front of ours, a path that is another cgroup
//! than the one in use.

use std::ffi::OsString;
use std::io::{BufRead, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tracing::debug;
use uuid::Uuid;

use super::cgroup::{self, OwnCgroup};
use super::virtual_ips::{VirtualIpError, VirtualIps};
use super::{Datapath, NamespaceNumber};

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
    kinds: &'static [Kind],
    cgroup: Option<PathBuf>,
    program: OsString,
}

/// Sockets that have a hook of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ipv4,
    /// Those that Java and others open for both families: to an IPv4 address they connect in the
    /// notation `::ffff:a.b.c.d`.
    Ipv6,
}

impl Kind {
    const ALL: &[Self] = &[Self::Ipv4, Self::Ipv6];

    fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        }
    }
}

impl SelfTest {
    /// `cgroup` is the hooked one, into which the child is moved; `None` if this process
    /// is in it itself and may not move anybody.
    pub fn new(datapath: &Datapath, cgroup: Option<PathBuf>) -> Self {
        Self {
            virtual_ips: datapath.virtual_ips(),
            kinds: if datapath.hooks_ipv6() {
                Kind::ALL
            } else {
                &[Kind::Ipv4]
            },
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
            accepted = self.expect(&listener, &token) => accepted.map_err(io("accept"))?,
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
        let kinds: Vec<&str> = self.kinds.iter().map(|kind| kind.name()).collect();
        input
            .write_all(format!("{address} {token} {}\n", kinds.join(" ")).as_bytes())
            .await
            .map_err(io("talk to its child"))?;
        Ok((child, place))
    }

    /// Until a connection of each kind has arrived with the token.
    async fn expect(&self, listener: &TcpListener, token: &str) -> std::io::Result<()> {
        for _ in self.kinds {
            expect(listener, token).await?;
        }
        Ok(())
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

/// The child: reads address, token and kinds of sockets from standard input; connects and says the
/// token with one of each kind.
pub fn probe_main() -> ExitCode {
    match probe() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn probe() -> Result<(), String> {
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|error| error.to_string())?;
    let mut words = line.split_ascii_whitespace();
    let (address, token) = words
        .next()
        .zip(words.next())
        .ok_or("the question is too short")?;
    let address = address.parse().map_err(|_malformed| "no address is given")?;
    for kind in words.filter_map(Kind::named) {
        say(token, address, kind).map_err(|error| format!("with a socket of {}: {error}", kind.name()))?;
    }
    Ok(())
}

fn say(token: &str, address: SocketAddrV4, kind: Kind) -> std::io::Result<()> {
    let (domain, address) = match kind {
        Kind::Ipv4 => (Domain::IPV4, SocketAddr::V4(address)),
        Kind::Ipv6 => (
            Domain::IPV6,
            SocketAddr::new(address.ip().to_ipv6_mapped().into(), address.port()),
        ),
    };
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if kind == Kind::Ipv6 {
        // The default is the system's: net.ipv6.bindv6only.
        socket.set_only_v6(false)?;
    }
    socket.connect_timeout(&address.into(), PATIENCE)?;
    TcpStream::from(socket).write_all(token.as_bytes())
}

fn io(step: &'static str) -> impl FnOnce(std::io::Error) -> SelfTestError {
    move |source| SelfTestError::Io { step, source }
}
