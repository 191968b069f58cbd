//! What can be wrong with the machine, one sentence each that says what to do.

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::{ProgramError, ProgramType};
use aya::sys::{BpfHelper, is_helper_supported};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("this binary was built without the eBPF programs: run `cargo xtask build-ebpf` and build again")]
    NoPrograms,

    #[error("the embedded eBPF programs have no `{what}`: run `cargo xtask build-ebpf` and build again")]
    Outdated { what: &'static str },

    #[error(
        "the embedded eBPF programs have another layout of `{what}`: run `cargo xtask build-ebpf` and build again"
    )]
    Layout {
        what: &'static str,
        #[source]
        source: MapError,
    },

    #[error(
        "not permitted to load eBPF programs: run as root, or with the capabilities CAP_BPF and CAP_NET_ADMIN"
    )]
    NotPermitted {
        #[source]
        source: io::Error,
    },

    #[error(
        "this kernel has no bpf(2) system call, or a seccomp profile hides it: \
         Linux 5.8 or newer with CONFIG_BPF_SYSCALL and CONFIG_CGROUP_BPF is needed"
    )]
    NoBpf {
        #[source]
        source: io::Error,
    },

    #[error("no memory for the eBPF maps: raise the memory limit, or RLIMIT_MEMLOCK before Linux 5.11")]
    NoMemory {
        #[source]
        source: io::Error,
    },

    #[error("the eBPF programs cannot be loaded")]
    Load {
        #[source]
        source: EbpfError,
    },

    #[error(
        "the kernel does not accept the eBPF program `{program}`: Linux 5.8 or newer is needed; \
         on such a kernel please report this with the text that follows"
    )]
    Rejected {
        program: &'static str,
        #[source]
        source: ProgramError,
    },

    #[error("the cgroup {} does not exist or cannot be opened", .path.display())]
    CgroupNotFound {
        path: PathBuf,
        #[source]
        source: io::Error,
    },

    #[error(
        "{} is not a cgroup v2 directory: give one below the mount of type `cgroup2` \
         (often /sys/fs/cgroup or /sys/fs/cgroup/unified)", .path.display()
    )]
    NotCgroup2 { path: PathBuf },

    #[error(
        "the program `{program}` is attached to the {hook} hook of {} in a way that allows no other there or \
         below; nothing was attached. Let its owner attach it with BPF_F_ALLOW_MULTI, or choose a cgroup \
         outside of it", .cgroup.display()
    )]
    Exclusive {
        cgroup: PathBuf,
        hook: &'static str,
        program: String,
    },

    #[error(
        "not permitted to attach `{program}` to {}: either the capability CAP_NET_ADMIN is missing, or another \
         program was attached there exclusively in this moment", .cgroup.display()
    )]
    AttachNotPermitted {
        cgroup: PathBuf,
        program: &'static str,
        #[source]
        source: ProgramError,
    },

    #[error("`{program}` cannot be attached to {}", .cgroup.display())]
    Attach {
        cgroup: PathBuf,
        program: &'static str,
        #[source]
        source: ProgramError,
    },

    #[error("the programs attached to {} cannot be listed", .cgroup.display())]
    Query {
        cgroup: PathBuf,
        #[source]
        source: io::Error,
    },

    #[error("the reports of refused connections cannot be read")]
    Refusals {
        #[source]
        source: io::Error,
    },

    #[error("the reports of the eBPF programs cannot be read")]
    KernelLog {
        #[source]
        source: aya_log::Error,
    },
}

/// `bpf_set_retval` came with Linux 5.18; without it a refusal is EPERM.
pub(super) fn set_retval_is_supported() -> bool {
    // Where the question itself fails, loading will say why in better words.
    is_helper_supported(ProgramType::CgroupSockAddr, BpfHelper::BPF_FUNC_set_retval).unwrap_or(true)
}

pub(super) fn loading(source: EbpfError) -> Error {
    common(&source).unwrap_or(Error::Load { source })
}

pub(super) fn verifying(program: &'static str, source: ProgramError) -> Error {
    common(&source).unwrap_or(Error::Rejected { program, source })
}

pub(super) fn attaching(cgroup: &Path, program: &'static str, source: ProgramError) -> Error {
    let cgroup = cgroup.to_owned();
    match errno(&source) {
        Some(libc::EBADF) => Error::NotCgroup2 { path: cgroup },
        Some(libc::EPERM | libc::EACCES) => Error::AttachNotPermitted {
            cgroup,
            program,
            source,
        },
        _ => Error::Attach {
            cgroup,
            program,
            source,
        },
    }
}

fn common(error: &(dyn StdError + 'static)) -> Option<Error> {
    let errno = errno(error)?;
    let source = io::Error::from_raw_os_error(errno);
    match errno {
        libc::EPERM => Some(Error::NotPermitted { source }),
        libc::ENOSYS => Some(Error::NoBpf { source }),
        libc::ENOMEM => Some(Error::NoMemory { source }),
        _ => None,
    }
}

/// The system's answer at the bottom of a chain of causes.
fn errno(error: &(dyn StdError + 'static)) -> Option<i32> {
    std::iter::successors(Some(error), |&error| error.source())
        .find_map(|error| error.downcast_ref::<io::Error>()?.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use aya::sys::SyscallError;

    fn load_error(errno: i32) -> ProgramError {
        let io_error = io::Error::from_raw_os_error(errno);
        ProgramError::SyscallError(SyscallError {
            call: "bpf",
            io_error,
        })
    }

    #[test]
    fn missing_privileges_are_named() {
        let error = verifying("tproxy_connect4", load_error(libc::EPERM));
        assert!(matches!(error, Error::NotPermitted { .. }));
        assert!(error.to_string().contains("CAP_BPF and CAP_NET_ADMIN"));
    }

    #[test]
    fn a_kernel_without_the_system_call_is_named() {
        assert!(matches!(
            verifying("tproxy_connect4", load_error(libc::ENOSYS)),
            Error::NoBpf { .. }
        ));
    }

    #[test]
    fn what_the_verifier_says_is_kept() {
        let error = verifying("tproxy_connect4", load_error(libc::EINVAL));
        assert!(matches!(
            error,
            Error::Rejected {
                program: "tproxy_connect4",
                ..
            }
        ));
    }

    #[test]
    fn a_bad_descriptor_means_another_kind_of_cgroup() {
        let error = attaching(
            Path::new("/sys/fs/cgroup/cpu"),
            "tproxy_connect4",
            load_error(libc::EBADF),
        );
        assert!(matches!(error, Error::NotCgroup2 { .. }));
    }
}
