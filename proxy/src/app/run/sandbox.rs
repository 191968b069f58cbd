//! Where CMD runs: a cgroup of its own for the hook, a mount namespace of its own for the names.
//!
//! # Expected flow
//! [`Sandbox::create`], attach the hook to [`Sandbox::cgroup`], fill [`Sandbox::hosts`],
//! then [`Sandbox::start`] on the main thread, [`Running::wait`], [`Sandbox::close`].
//!
//! # Guarantees
//! Nothing outlives the proxy. A small process beside it (`__watch`) holds the end of a
//! pipe; when the proxy is gone, however that came, it kills what is in the cgroup and
//! removes cgroup and files. Should that process be killed too, the next start clears
//! what it finds without the lock of a living proxy. CMD itself ends with the proxy by
//! `PR_SET_PDEATHSIG`.
//!
//! # Assumptions
//! Root: cgroups, mounts and changing the user need it.

mod cgroup;
mod leftovers;
mod remount;
mod state;
mod watch;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use nix::fcntl::Flock;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::kill;
use nix::unistd::{Pid, Uid};
use tracing::warn;

pub(super) use state::{Bind, State, failure_file};
pub use watch::watch;

use super::command::{Identity, IdentityError};
use super::hosts::{self, PrivateHosts, nsswitch_with_files_first};
use super::signals::Signals;

/// Holds one folder per living sandbox; see hier(7) and file-hierarchy(7).
const RUNTIME: &str = "/run/transparent-proxy";
/// Folders below [`RUNTIME`], and with `transparent-proxy-` before it the cgroups.
const NAME_PREFIX: &str = "run-";

const NSSWITCH: &str = "/etc/nsswitch.conf";
/// Where nscd(8) listens; it would answer from the machine's hosts file.
const NSCD: &str = "/run/nscd/socket";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("running a CMD takes root (for its cgroup, its mounts and its user): call this with sudo")]
    NotRoot,
    #[error("{path} cannot be used: {source}; it has to be a folder that root can write to")]
    Runtime { path: PathBuf, source: io::Error },
    #[error("another start of the proxy takes very long: who holds the lock {0}?")]
    Busy(PathBuf),
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("/etc/hosts does not exist and cannot be created ({0}); create an empty one")]
    NoHosts(#[source] io::Error),
    #[error("the proxy cannot start itself again: {0}")]
    Spawn(#[source] io::Error),
    #[error("{0}")]
    Enter(String),
    #[error("waiting for CMD failed: {0}")]
    Wait(#[source] io::Error),
}

/// The limits of the process before it raised them for itself; CMD gets these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Limits {
    pub open_files: (u64, u64),
}

impl Limits {
    /// First thing in the life of a process.
    pub fn current() -> io::Result<Self> {
        Ok(Self {
            open_files: getrlimit(Resource::RLIMIT_NOFILE)?,
        })
    }
}

/// What a sandbox needs to know.
#[derive(Debug)]
pub struct Options<'a> {
    /// `--user`
    pub user: Option<&'a str>,
    pub limits: Limits,
    /// This program; starts itself again as `__enter` and `__watch`.
    pub executable: &'a Path,
}

/// This program, also after its file was replaced by a newer one.
pub const THIS_PROGRAM: &str = "/proc/self/exe";

#[derive(Debug)]
pub struct Sandbox {
    directory: PathBuf,
    state: State,
    identity: Option<Identity>,
    executable: PathBuf,
    watcher: Option<std::process::Child>,
    // Held while this process lives.
    _locks: [Flock<File>; 2],
}

impl Sandbox {
    /// Clears what dead proxies left, then makes cgroup, folder and hosts file.
    pub fn create(options: &Options<'_>) -> Result<Self, Error> {
        if !Uid::effective().is_root() {
            return Err(Error::NotRoot);
        }
        let identity = Identity::choose(options.user)?;
        let places = cgroup::places()?;
        let start = leftovers::begin_start(Path::new(RUNTIME))?;
        leftovers::clear(&start, &places);
        let name = format!("{NAME_PREFIX}{}", std::process::id());
        let directory = start.runtime().join(&name);
        let folder_lock = make_folder(&directory)?;
        let mut state = State {
            proxy: std::process::id(),
            cgroup: PathBuf::new(),
            binds: Vec::new(),
            created: Vec::new(),
            limits: options.limits,
            identity: identity.as_ref().map(Identity::ids),
        };
        let (cgroup, cgroup_lock) = cgroup::create(&places, &name).inspect_err(|_| {
            let _ = fs::remove_dir_all(&directory);
        })?;
        state.cgroup = cgroup;
        let mut sandbox = Self {
            directory,
            state,
            identity,
            executable: options.executable.to_owned(),
            watcher: None,
            _locks: [folder_lock, cgroup_lock],
        };
        // From here on dropping the sandbox clears everything.
        sandbox.save()?;
        sandbox.prepare_files()?;
        sandbox.save()?;
        sandbox.watcher = Some(sandbox.start_watcher()?);
        Ok(sandbox)
    }

    /// The cgroup that CMD will be in, empty until [`Sandbox::start`].
    pub fn cgroup(&self) -> &Path {
        &self.state.cgroup
    }

    /// The file that CMD sees as `/etc/hosts`.
    pub fn hosts(&self) -> PrivateHosts {
        PrivateHosts::new(self.directory.join("hosts"), hosts::SYSTEM.into())
    }

    /// Starts CMD. Only on the main thread: CMD is killed when the *thread* that started
    /// it ends (`PR_SET_PDEATHSIG`, see prctl(2)).
    pub fn start(&self, program: &OsString, arguments: &[OsString]) -> Result<Running, Error> {
        let mut command = std::process::Command::new(&self.executable);
        command
            .arg0("transparent-proxy")
            .arg("__enter")
            .arg(&self.directory)
            .arg("--");
        command.arg(program).args(arguments);
        if let Some(identity) = &self.identity {
            identity.apply_environment(&mut command);
        }
        let changes = remount::Changes::watch(self.state.binds.clone());
        let child = tokio::process::Command::from(command)
            .spawn()
            .map_err(Error::Spawn)?;
        Ok(Running {
            remounting: remounting(changes, child.id()),
            child,
            directory: self.directory.clone(),
        })
    }

    /// Ends what still runs in the cgroup and removes everything.
    pub fn close(mut self) {
        self.clear();
    }

    fn clear(&mut self) {
        leftovers::remove(&self.directory);
        if let Some(mut watcher) = self.watcher.take() {
            // Its pipe closes, it finds nothing to do and ends.
            drop(watcher.stdin.take());
            let _ = watcher.wait();
        }
    }

    fn prepare_files(&mut self) -> Result<(), Error> {
        self.hosts().update(&[]).map_err(|source| self.unusable(source))?;
        // A bind mount needs something to lie on.
        if !Path::new(hosts::SYSTEM).exists() {
            self.state.created.push(hosts::SYSTEM.into());
            self.save()?;
            File::create(hosts::SYSTEM).map_err(Error::NoHosts)?;
        }
        self.bind("hosts", hosts::SYSTEM);
        let nsswitch = fs::read_to_string(NSSWITCH).unwrap_or_default();
        if let Some(changed) = nsswitch_with_files_first(&nsswitch) {
            fs::write(self.directory.join("nsswitch.conf"), changed)
                .map_err(|source| self.unusable(source))?;
            self.bind("nsswitch.conf", NSSWITCH);
        }
        if Path::new(NSCD).exists() {
            let no_nscd = Bind {
                source: "/dev/null".into(),
                target: NSCD.into(),
            };
            self.state.binds.push(no_nscd);
        }
        Ok(())
    }

    fn bind(&mut self, file: &str, target: &str) {
        self.state.binds.push(Bind {
            source: self.directory.join(file),
            target: target.into(),
        });
    }

    fn save(&self) -> Result<(), Error> {
        self.state
            .save(&self.directory)
            .map_err(|source| self.unusable(source))
    }

    fn unusable(&self, source: io::Error) -> Error {
        Error::Runtime {
            path: self.directory.clone(),
            source,
        }
    }

    fn start_watcher(&self) -> Result<std::process::Child, Error> {
        std::process::Command::new(&self.executable)
            .arg0("transparent-proxy")
            .arg("__watch")
            .arg(&self.directory)
            .current_dir("/")
            .stdin(Stdio::piped())
            // An open stdout would keep the reader of a pipeline waiting.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Error::Spawn)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.clear();
    }
}

fn make_folder(directory: &Path) -> Result<Flock<File>, Error> {
    let unusable = |source| Error::Runtime {
        path: directory.to_owned(),
        source,
    };
    fs::create_dir(directory).map_err(unusable)?;
    leftovers::try_lock(directory)
        .map_err(unusable)?
        .ok_or_else(|| Error::Busy(directory.to_owned()))
}

/// Without it CMD runs all the same: hosts files are rarely replaced.
fn remounting(
    changes: notify::Result<remount::Changes>,
    process: Option<u32>,
) -> Option<remount::Remounting> {
    let remounting = match (changes, process) {
        (Ok(changes), Some(process)) => changes.remount(process).map_err(notify::Error::io),
        (Err(error), _) => Err(error),
        (Ok(_), None) => return None,
    };
    remounting
        .inspect_err(|error| {
            warn!(%error, "CMD will lose the names of its destinations if the hosts file is replaced");
        })
        .ok()
}

/// CMD, while it runs.
#[derive(Debug)]
pub struct Running {
    #[expect(dead_code, reason = "lives as long as CMD")]
    remounting: Option<remount::Remounting>,
    child: tokio::process::Child,
    directory: PathBuf,
}

impl Running {
    /// Waits for the end of CMD and passes signals on to it; gives its exit code.
    /// Cancelling loses nothing.
    pub async fn wait(&mut self, signals: &mut Signals) -> Result<u8, Error> {
        loop {
            tokio::select! {
                status = self.child.wait() => return self.outcome(status.map_err(Error::Wait)?),
                received = signals.next() => {
                    let received = received.map_err(Error::Wait)?;
                    if !received.reached_cmd() {
                        self.signal(received.signal);
                    }
                }
            }
        }
    }

    /// Sends a signal to CMD alone.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            // It may have ended in this moment, which `wait` will notice.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    fn outcome(&self, status: ExitStatus) -> Result<u8, Error> {
        if let Some(failure) = state::failure(&self.directory) {
            return Err(Error::Enter(failure));
        }
        Ok(exit_code(status))
    }
}

/// As shells show it: the code itself, or 128 and the number of the signal.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| Some(128 + status.signal()?))
        .unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}
