//! Programs of others on the same cgroup and on its ancestors.
//!
//! The kernel lets a program be attached to a cgroup in three ways: exclusively, so that
//! nothing can be attached there or below; overridable, so that a program further down
//! replaces it there; or beside others. Only the third gets along with ours. See
//! `hierarchy_allows_attach` and `compute_effective_progs` in the kernel's
//! `kernel/bpf/cgroup.c`.

use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use aya::programs::loaded_programs;

use super::{Error, cgroup};

#[cfg(any(test, feature = "testing"))]
pub mod testing;

/// The hooks that ours share with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Hook {
    // Values of `enum bpf_attach_type`.
    SockOps = 3,
    Connect4 = 10,
    Connect6 = 11,
    GetPeerName4 = 29,
    GetPeerName6 = 30,
}

impl Hook {
    const ALL: [Self; 5] = [
        Self::Connect4,
        Self::Connect6,
        Self::GetPeerName4,
        Self::GetPeerName6,
        Self::SockOps,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::SockOps => "sock_ops",
            Self::Connect4 => "connect4",
            Self::Connect6 => "connect6",
            Self::GetPeerName4 => "getpeername4",
            Self::GetPeerName6 => "getpeername6",
        }
    }

    pub(super) fn is_connect(self) -> bool {
        matches!(self, Self::Connect4 | Self::Connect6)
    }
}

/// How a program was attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Allows nothing else on this cgroup and below.
    Exclusive,
    /// Replaced by whatever is attached further down.
    Override,
    /// One of several; the way in which ours are attached.
    Multi,
}

impl Mode {
    fn from_flags(flags: u32) -> Self {
        const BPF_F_ALLOW_OVERRIDE: u32 = 1;
        const BPF_F_ALLOW_MULTI: u32 = 2;
        if flags & BPF_F_ALLOW_MULTI != 0 {
            Self::Multi
        } else if flags & BPF_F_ALLOW_OVERRIDE != 0 {
            Self::Override
        } else {
            Self::Exclusive
        }
    }
}

/// A program attached to a cgroup, ours included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedProgram {
    pub cgroup: PathBuf,
    pub hook: Hook,
    pub id: u32,
    /// Unknown where the kernel tells program names only to `CAP_SYS_ADMIN`.
    pub name: Option<String>,
    pub mode: Mode,
}

impl AttachedProgram {
    fn label(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("number {}", self.id))
    }
}

/// Everything attached to our hooks on `cgroup` and its ancestors, for `doctor`.
pub fn programs_on(cgroup: &Path) -> Result<Vec<AttachedProgram>, Error> {
    let mut all = Vec::new();
    for directory in cgroup::with_ancestors(cgroup)? {
        for hook in Hook::ALL {
            all.extend(programs_at(&directory, hook)?);
        }
    }
    Ok(all)
}

/// Fails if somebody on the way to the root wants one of `hooks` for himself.
pub(super) fn refuse_exclusive(cgroup: &Path, hooks: &[Hook]) -> Result<(), Error> {
    for directory in cgroup::with_ancestors(cgroup)? {
        for hook in hooks {
            let programs = programs_at(&directory, *hook)?;
            if let Some(program) = programs.iter().find(|program| program.mode != Mode::Multi) {
                return Err(Error::Exclusive {
                    cgroup: directory,
                    hook: hook.name(),
                    program: program.label(),
                });
            }
        }
    }
    Ok(())
}

fn programs_at(directory: &Path, hook: Hook) -> Result<Vec<AttachedProgram>, Error> {
    let file = cgroup::open(directory)?;
    let (flags, ids) = match query(&file, hook) {
        Ok(answer) => answer,
        // A kernel that does not know the hook has nobody on it.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(Vec::new()),
        Err(error) if error.raw_os_error() == Some(libc::EBADF) => {
            return Err(Error::NotCgroup2 {
                path: directory.to_owned(),
            });
        }
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            return Err(Error::NotPermitted { source: error });
        }
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
            return Err(Error::NoBpf { source: error });
        }
        Err(source) => {
            return Err(Error::Query {
                cgroup: directory.to_owned(),
                source,
            });
        }
    };
    let mode = Mode::from_flags(flags);
    let attached = |id| AttachedProgram {
        cgroup: directory.to_owned(),
        hook,
        id,
        name: program_name(id),
        mode,
    };
    Ok(ids.into_iter().map(attached).collect())
}

fn program_name(id: u32) -> Option<String> {
    let program = loaded_programs()
        .filter_map(Result::ok)
        .find(|program| program.id() == id)?;
    program
        .name_as_str()
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
}

/// The part of `union bpf_attr` that `BPF_PROG_QUERY` reads and writes.
#[repr(C)]
#[derive(Default)]
struct QueryAttributes {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

/// How programs are attached to this very cgroup, and which; see bpf(2).
fn query(cgroup: &File, hook: Hook) -> io::Result<(u32, Vec<u32>)> {
    const BPF_PROG_QUERY: libc::c_long = 16;
    // BPF_CGROUP_MAX_PROGS in the kernel.
    let mut ids = vec![0_u32; 64];
    let mut attributes = QueryAttributes {
        target_fd: cgroup.as_raw_fd().unsigned_abs(),
        attach_type: hook as u32,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: 64,
        ..QueryAttributes::default()
    };
    // SAFETY: the attributes have the kernel's layout and the size that is given, and
    // outlive the call, as does the buffer they point to, which has `prog_cnt` elements.
    #[expect(unsafe_code, reason = "no crate in use wraps this query for cgroups")]
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_QUERY,
            &raw mut attributes,
            size_of::<QueryAttributes>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    ids.truncate(attributes.prog_cnt as usize);
    Ok((attributes.attach_flags, ids))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attach_flags_tell_who_tolerates_others() {
        assert_eq!(Mode::from_flags(0), Mode::Exclusive);
        assert_eq!(Mode::from_flags(1), Mode::Override);
        assert_eq!(Mode::from_flags(2), Mode::Multi);
        assert_eq!(Mode::from_flags(2 | 64), Mode::Multi, "with BPF_F_PREORDER");
    }
}
