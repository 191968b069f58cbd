//! A foreign program, attached the old way: `bpftool cgroup attach` without `multi`.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use super::{Hook, Mode};

/// Makes every `connect` of one kind of sockets in a cgroup fail with EPERM, as long as it lives.
#[derive(Debug)]
pub struct RefuseEverything {
    hook: Hook,
    program: OwnedFd,
    cgroup: File,
}

impl RefuseEverything {
    pub const NAME: &str = "refuse_all";

    /// Of IPv4 sockets.
    pub fn attach(cgroup: &Path, mode: Mode) -> io::Result<Self> {
        Self::attach_to(Hook::Connect4, cgroup, mode)
    }

    pub fn attach_to(hook: Hook, cgroup: &Path, mode: Mode) -> io::Result<Self> {
        let cgroup = File::open(cgroup)?;
        let program = load(hook)?;
        let flags = match mode {
            Mode::Exclusive => 0,
            Mode::Override => 1,
            Mode::Multi => 2,
        };
        attach_or_detach(BPF_PROG_ATTACH, hook, &cgroup, &program, flags)?;
        Ok(Self {
            hook,
            program,
            cgroup,
        })
    }
}

impl Drop for RefuseEverything {
    fn drop(&mut self) {
        // The cgroup may be gone, and the program with it.
        let _ = attach_or_detach(BPF_PROG_DETACH, self.hook, &self.cgroup, &self.program, 0);
    }
}

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_DETACH: libc::c_long = 9;

#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

#[repr(C)]
struct AttachAttributes {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

fn load(hook: Hook) -> io::Result<OwnedFd> {
    const BPF_PROG_TYPE_CGROUP_SOCK_ADDR: u32 = 18;
    const LICENSE: &CStr = c"Apache-2.0";
    // r0 = 0; exit
    const INSTRUCTIONS: [u64; 2] = [0xb7, 0x95];
    let mut prog_name = [0; 16];
    prog_name[..RefuseEverything::NAME.len()].copy_from_slice(RefuseEverything::NAME.as_bytes());
    let mut attributes = LoadAttributes {
        prog_type: BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
        insn_cnt: 2,
        insns: INSTRUCTIONS.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        prog_name,
        expected_attach_type: hook as u32,
        ..LoadAttributes::default()
    };
    let descriptor = bpf(BPF_PROG_LOAD, &mut attributes)?;
    // SAFETY: a new descriptor that nobody else knows.
    #[expect(unsafe_code, reason = "the system call returns a plain number")]
    let program = unsafe { OwnedFd::from_raw_fd(descriptor) };
    Ok(program)
}

fn attach_or_detach(
    command: libc::c_long,
    hook: Hook,
    cgroup: &File,
    program: &OwnedFd,
    flags: u32,
) -> io::Result<()> {
    let mut attributes = AttachAttributes {
        target_fd: cgroup.as_raw_fd().unsigned_abs(),
        attach_bpf_fd: program.as_raw_fd().unsigned_abs(),
        attach_type: hook as u32,
        attach_flags: flags,
    };
    bpf(command, &mut attributes).map(drop)
}

fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: both kinds of attributes have the kernel's layout, the size is theirs, and
    // what they point to is static.
    #[expect(unsafe_code, reason = "no crate in use attaches to cgroups without a link")]
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(i32::try_from(result).expect("descriptors are small"))
}
