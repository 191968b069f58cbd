//! The kernel side: loads the eBPF programs, attaches them to cgroups, fills their maps.
//!
//! # Expected flow
//! [`Datapath::load`], then [`Datapath::virtual_ips`] to say what is redirected where and
//! [`Datapath::callers`] to say who is who, then [`Datapath::attach`] once the listeners are ready. When stopping,
//! [`Datapath::stop_redirecting`] first, so that handshakes under way end well, then
//! [`Datapath::detach`] (or drop it).
//!
//! # Guarantees
//! Nothing is pinned: when the process ends, however it ends, the hooks are gone.
//! Nothing that somebody else attached is detached or replaced.
//!
//! # Assumptions
//! Linux 5.8 or newer, a cgroup v2 tree, `CAP_BPF` and `CAP_NET_ADMIN`. The kernel's own
//! type information (`/sys/kernel/btf`) is not needed.

use std::path::Path;
use std::time::Duration;

use aya::maps::{HashMap, MapData, PerCpuArray, SkStorage};
use aya::programs::cgroup_sock_addr::CgroupSockAddrLink;
use aya::programs::sock_ops::SockOpsLink;
use aya::programs::{CgroupAttachMode, CgroupSockAddr, Program, SockOps};
use aya::{Ebpf, EbpfLoader};
use nix::time::{ClockId, clock_gettime};
use proxy_common::{Endpoint, Flow, Ip, Origin, Target};

pub mod cgroup;
pub mod foreign;
pub mod kernel_log;
pub mod pods;
pub mod self_test;

mod callers;
mod counters;
mod error;
mod exempt;
mod origin;
mod refusals;
mod virtual_ips;

pub use callers::{Callers, CallersError};
pub use counters::{Counters, Snapshot};
pub use error::Error;
pub use exempt::Exempt;
pub use kernel_log::KernelLog;
pub use origin::{Caller, Origins};
pub use proxy_common::{NamespaceNumber, Refusal};
pub use refusals::{Refusals, RefusedConnect};
pub use virtual_ips::{VirtualIpError, VirtualIps};

use foreign::Hook;

/// The compiled programs; empty if they were missing when this was compiled.
/// Aligned as the ELF parser wants it.
static PROGRAMS: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/ebpf")));

#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);

#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Also hook IPv6 sockets, which includes `::ffff:a.b.c.d` on them.
    pub ipv6: bool,
    /// Tell the accepted socket who connected; costs a program on every TCP connection.
    pub origin_record: bool,
    /// Report every refusal, for [`Datapath::refusals`].
    pub refusal_record: bool,
    /// Let the programs report decisions while the log level asks for it, see [`KernelLog::forward`].
    /// Off, the verifier removes that code.
    pub kernel_log: bool,
    /// Refuse with EPERM, as on kernels before 5.18, which offer nothing else.
    pub refuse_with_eperm: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ipv6: ipv6_usable(),
            origin_record: false,
            refusal_record: false,
            kernel_log: false,
            refuse_with_eperm: false,
        }
    }
}

/// Whether this kernel can make IPv6 sockets at all.
pub fn ipv6_usable() -> bool {
    use socket2::{Domain, Socket, Type};
    Socket::new(Domain::IPV6, Type::STREAM, None).is_ok()
}

/// The loaded programs and what they are attached to.
#[derive(Debug)]
pub struct Datapath {
    options: Options,
    // Before `ebpf`, and these before the rest: fields are dropped in this order.
    connect_links: Vec<Link>,
    other_links: Vec<Link>,
    ebpf: Ebpf,
    virtual_ips: VirtualIps,
    callers: Callers,
    exempt: Exempt,
    origins: Origins,
    counters: Counters,
}

impl Datapath {
    /// Loads and verifies the programs. Nothing is attached yet.
    pub fn load(options: &Options) -> Result<Self, Error> {
        if PROGRAMS.0.is_empty() {
            return Err(Error::NoPrograms);
        }
        let mut ebpf = create_maps(*options)?;
        for program in wanted_programs(*options) {
            load_program(&mut ebpf, program)?;
        }
        Ok(Self {
            options: *options,
            connect_links: Vec::new(),
            other_links: Vec::new(),
            virtual_ips: VirtualIps::new(
                hash_map::<Ip, u32>(&mut ebpf, "VIRTUAL_IPS")?,
                hash_map::<Endpoint, Target>(&mut ebpf, "TARGETS")?,
            ),
            callers: Callers::new(hash_map(&mut ebpf, "CALLERS")?),
            exempt: Exempt::new(socket_storage(&mut ebpf, "EXEMPT")?),
            origins: Origins::new(
                socket_storage::<Origin>(&mut ebpf, "ORIGINS")?,
                hash_map::<Flow, Origin>(&mut ebpf, "FLOWS")?,
            ),
            counters: Counters::new(counters(&mut ebpf)?),
            ebpf,
        })
    }

    /// Attaches the programs to a cgroup and so to all below it; may be called for several.
    ///
    /// A program that somebody attached to it or to an ancestor without allowing others
    /// would make this fail, or would be switched off by it. Then nothing is attached
    /// and the error names it.
    pub fn attach(&mut self, cgroup: &Path) -> Result<(), Error> {
        let directory = cgroup::open(cgroup)?;
        let programs = wanted_programs(self.options);
        let hooks: Vec<Hook> = programs.iter().map(|program| program.hook).collect();
        foreign::refuse_exclusive(cgroup, &hooks)?;
        let mut links = Vec::new();
        for program in &programs {
            let link = attach_program(&mut self.ebpf, program, &directory)
                .map_err(|source| error::attaching(cgroup, program.name, source))?;
            links.push((program.hook, link));
        }
        for (hook, link) in links {
            let list = if hook.is_connect() {
                &mut self.connect_links
            } else {
                &mut self.other_links
            };
            list.push(link);
        }
        Ok(())
    }

    /// Detaches the connect hooks alone. Connections that were redirected stay intact,
    /// and those in their handshake still get their origin.
    pub fn stop_redirecting(&mut self) {
        self.connect_links.clear();
    }

    /// Detaches everything, connect hooks first.
    pub fn detach(&mut self) {
        self.stop_redirecting();
        self.other_links.clear();
    }

    /// Whether new connections are redirected.
    pub fn is_attached(&self) -> bool {
        !self.connect_links.is_empty()
    }

    /// Whether IPv6 sockets are redirected as well.
    pub fn hooks_ipv6(&self) -> bool {
        self.options.ipv6
    }

    pub fn virtual_ips(&self) -> VirtualIps {
        self.virtual_ips.clone()
    }

    pub fn callers(&self) -> Callers {
        self.callers.clone()
    }

    pub fn exempt(&self) -> Exempt {
        self.exempt.clone()
    }

    pub fn origins(&self) -> Origins {
        self.origins.clone()
    }

    pub fn counters(&self) -> Counters {
        self.counters.clone()
    }

    /// What the hook refuses, if [`Options::refusal_record`] asked for it. Once, and from
    /// within a tokio runtime.
    pub fn refusals(&mut self) -> Result<Option<Refusals>, Error> {
        if !self.options.refusal_record {
            return Ok(None);
        }
        Refusals::new(&mut self.ebpf)
    }

    /// The programs' own reports, if [`Options::kernel_log`] asked for them. Once.
    pub fn kernel_log(&mut self) -> Result<Option<KernelLog>, Error> {
        if !self.options.kernel_log {
            return Ok(None);
        }
        KernelLog::new(&mut self.ebpf).map(Some)
    }

    /// How many instructions the verifier looked at, per program; 0 before Linux 5.16.
    pub fn verified_instructions(&self) -> Vec<(String, u32)> {
        wanted_programs(self.options)
            .iter()
            .filter_map(|wanted| {
                let info = self.ebpf.program(wanted.name)?.info().ok()?;
                Some((
                    wanted.name.to_owned(),
                    info.verified_instruction_count().unwrap_or(0),
                ))
            })
            .collect()
    }
}

impl Drop for Datapath {
    fn drop(&mut self) {
        self.detach();
    }
}

/// Attached as long as it lives.
#[derive(Debug)]
enum Link {
    SockAddr(#[expect(dead_code, reason = "kept to be dropped")] CgroupSockAddrLink),
    SockOps(#[expect(dead_code, reason = "kept to be dropped")] SockOpsLink),
}

/// A program in the object file and the hook that it is for.
#[derive(Debug, Clone, Copy)]
struct WantedProgram {
    name: &'static str,
    hook: Hook,
}

/// In the order of attaching: whoever is redirected must find the rest in place.
fn wanted_programs(options: Options) -> Vec<WantedProgram> {
    let all = [
        (options.origin_record, "tproxy_sock_ops", Hook::SockOps),
        (true, "tproxy_peer4", Hook::GetPeerName4),
        (options.ipv6, "tproxy_peer6", Hook::GetPeerName6),
        (options.ipv6, "tproxy_connect6", Hook::Connect6),
        (true, "tproxy_connect4", Hook::Connect4),
    ];
    all.into_iter()
        .filter(|(wanted, ..)| *wanted)
        .map(|(_, name, hook)| WantedProgram { name, hook })
        .collect()
}

fn create_maps(options: Options) -> Result<Ebpf, Error> {
    const DEBUG: u8 = aya_log::Level::Debug as u8;
    let log_level = if options.kernel_log { DEBUG } else { 0 };
    let have_set_retval = u8::from(!options.refuse_with_eperm && error::set_retval_is_supported());
    EbpfLoader::new()
        // Nothing here is relocated against the kernel's types, so a missing or broken
        // /sys/kernel/btf must not matter.
        .btf(None)
        .override_global("AYA_LOG_LEVEL", &log_level, true)
        .override_global("MAY_TELL", &u8::from(options.kernel_log), true)
        .override_global("HAVE_SET_RETVAL", &have_set_retval, true)
        .override_global("REPORT_REFUSALS", &u8::from(options.refusal_record), true)
        .load(&PROGRAMS.0)
        .map_err(error::loading)
}

fn load_program(ebpf: &mut Ebpf, wanted: WantedProgram) -> Result<(), Error> {
    let program = ebpf
        .program_mut(wanted.name)
        .ok_or(Error::Outdated { what: wanted.name })?;
    let loaded = match program {
        Program::CgroupSockAddr(program) => program.load(),
        Program::SockOps(program) => program.load(),
        _ => return Err(Error::Outdated { what: wanted.name }),
    };
    loaded.map_err(|source| error::verifying(wanted.name, source))
}

fn attach_program(
    ebpf: &mut Ebpf,
    wanted: &WantedProgram,
    cgroup: &std::fs::File,
) -> Result<Link, aya::programs::ProgramError> {
    // For links the kernel always allows several programs; with another mode than
    // `Single` it rejects them (https://github.com/aya-rs/aya/issues/1078).
    const MODE: CgroupAttachMode = CgroupAttachMode::Single;
    let program = ebpf.program_mut(wanted.name).expect("`load` found it");
    if wanted.hook == Hook::SockOps {
        let program: &mut SockOps = program.try_into()?;
        let id = program.attach(cgroup, MODE)?;
        Ok(Link::SockOps(program.take_link(id)?))
    } else {
        let program: &mut CgroupSockAddr = program.try_into()?;
        let id = program.attach(cgroup, MODE)?;
        Ok(Link::SockAddr(program.take_link(id)?))
    }
}

/// The clock of `bpf_ktime_get_ns`.
fn monotonic() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .expect("every Linux has a monotonic clock")
        .into()
}

fn hash_map<K: aya::Pod, V: aya::Pod>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<HashMap<MapData, K, V>, Error> {
    let map = ebpf.take_map(name).ok_or(Error::Outdated { what: name })?;
    HashMap::try_from(map).map_err(|source| Error::Layout { what: name, source })
}

fn socket_storage<V: aya::Pod>(ebpf: &mut Ebpf, name: &'static str) -> Result<SkStorage<MapData, V>, Error> {
    let map = ebpf.take_map(name).ok_or(Error::Outdated { what: name })?;
    SkStorage::try_from(map).map_err(|source| Error::Layout { what: name, source })
}

fn counters(ebpf: &mut Ebpf) -> Result<PerCpuArray<MapData, u64>, Error> {
    let what = "COUNTERS";
    let map = ebpf.take_map(what).ok_or(Error::Outdated { what })?;
    PerCpuArray::try_from(map).map_err(|source| Error::Layout { what, source })
}
