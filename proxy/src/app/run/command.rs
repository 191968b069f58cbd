//! CMD: as whom it runs, and the steps from a child of the proxy to the program itself.

mod identity;

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, getppid, setgroups, setresgid, setresuid};

pub use identity::{Error as IdentityError, Identity, Ids};

use super::sandbox::{Bind, State, failure_file};
use super::signals;

/// As shells have it: CMD exists but cannot be executed.
const CANNOT_EXECUTE: u8 = 126;
/// As shells have it: there is no such CMD.
const NOT_FOUND: u8 = 127;

#[derive(Debug, thiserror::Error)]
enum EnterError {
    #[error("the sandbox {0} is incomplete: {1}")]
    State(PathBuf, #[source] io::Error),
    #[error("CMD cannot be moved into its cgroup {0}: {1}")]
    Join(PathBuf, #[source] io::Error),
    #[error("mount namespaces are not allowed here: {0}; in a container, CAP_SYS_ADMIN is needed")]
    Namespace(#[source] Errno),
    #[error("{0} cannot be replaced for CMD alone: {1}")]
    Bind(PathBuf, #[source] Errno),
    #[error("the user cannot be changed: {0}")]
    User(#[source] Errno),
    #[error("CMD cannot get its surroundings: {0}")]
    Surroundings(#[source] io::Error),
    #[error("the proxy ended")]
    Orphan,
    #[error("{}", describe(.program, .error))]
    Exec { program: OsString, error: io::Error },
}

/// Role `__enter`: joins the sandbox and becomes CMD. Only returns if that fails.
pub fn enter(directory: &Path, command: &[OsString]) -> ExitCode {
    let failure = failure_file(directory);
    let error = match become_command(directory, command) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    if let EnterError::Exec { error: cause, .. } = &error {
        // As a shell would: the message, and a code that is CMD's.
        eprintln!("transparent-proxy: {error}");
        let missing = cause.kind() == io::ErrorKind::NotFound;
        return ExitCode::from(if missing { NOT_FOUND } else { CANNOT_EXECUTE });
    }
    match failure.and_then(|mut file| file.write_all(error.to_string().as_bytes())) {
        Ok(()) => {}
        Err(_) => eprintln!("transparent-proxy: {error}"),
    }
    ExitCode::FAILURE
}

fn become_command(directory: &Path, command: &[OsString]) -> Result<std::convert::Infallible, EnterError> {
    let state = State::load(directory).map_err(|error| EnterError::State(directory.to_owned(), error))?;
    join(&state.cgroup)?;
    private_mounts(&state.binds)?;
    let (soft, hard) = state.limits.open_files;
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).map_err(|error| EnterError::Surroundings(error.into()))?;
    if let Some(ids) = &state.identity {
        change_user(ids).map_err(EnterError::User)?;
    }
    // After the change of the user, which would reset it.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| EnterError::Surroundings(error.into()))?;
    // The proxy may have ended before that.
    if u32::try_from(getppid().as_raw()) != Ok(state.proxy) {
        return Err(EnterError::Orphan);
    }
    signals::unblock().map_err(EnterError::Surroundings)?;
    let (program, arguments) = command.split_first().expect("clap demands at least one");
    let error = std::process::Command::new(program).args(arguments).exec();
    Err(EnterError::Exec {
        program: program.clone(),
        error,
    })
}

fn join(cgroup: &Path) -> Result<(), EnterError> {
    fs::write(cgroup.join("cgroup.procs"), "0").map_err(|error| EnterError::Join(cgroup.to_owned(), error))
}

/// What the machine mounts later still appears for CMD; nothing of ours appears outside.
fn private_mounts(binds: &[Bind]) -> Result<(), EnterError> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(EnterError::Namespace)?;
    let nothing: Option<&str> = None;
    mount(
        nothing,
        "/",
        nothing,
        MsFlags::MS_REC | MsFlags::MS_SLAVE,
        nothing,
    )
    .map_err(EnterError::Namespace)?;
    for Bind { source, target } in binds {
        mount(Some(source), target, nothing, MsFlags::MS_BIND, nothing)
            .map_err(|error| EnterError::Bind(target.clone(), error))?;
    }
    Ok(())
}

/// Leaving root takes all capabilities with it; see "Effect of user ID changes on
/// capabilities" in capabilities(7). `no_new_privs` stays off, so that CMD may use sudo.
fn change_user(ids: &Ids) -> nix::Result<()> {
    let groups: Vec<Gid> = ids.groups.iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(ids.uid), Gid::from_raw(ids.gid));
    setgroups(&groups)?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)
}

fn describe(program: &OsString, error: &io::Error) -> String {
    let program = program.display();
    match error.kind() {
        io::ErrorKind::NotFound => format!("{program}: command not found"),
        io::ErrorKind::PermissionDenied => format!("{program} cannot be executed: no permission"),
        _ if error.raw_os_error() == Some(libc::ENOEXEC) => {
            format!(
                "{program} cannot be executed: it is neither a program for this machine nor has it a #! line"
            )
        }
        _ => format!("{program} cannot be executed: {error}"),
    }
}
