//! connect4, connect6: (virtual IP, port) → the proxy.

use aya_ebpf::EbpfContext;
use core::cell::Cell;
use core::net::Ipv6Addr;

use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::helpers::generated::{
    bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id, bpf_get_netns_cookie, bpf_ktime_get_ns,
    bpf_set_retval,
};
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use aya_log_ebpf::debug;
use proxy_common::{
    Attempt, Counter, Endpoint, Ip, NamespaceNumber, Origin, Refusal, Refused, Tables, Target, Verdict,
    Wanted, verdict,
};

use crate::maps::{
    self, CALLERS, EXEMPT, HAVE_SET_RETVAL, REFUSALS, REPORT_REFUSALS, TARGETS, VIRTUAL_IPS, WANTED, count,
    count_for, tells,
};
use crate::sock_addr::{Call, PROCEED, REFUSE};

const ECONNREFUSED: i32 = 111;
const ENOMEM: i32 = 12;
/// Levels below the root of all cgroups. A pod is on the second or third one, or on the sixth or
/// seventh where the node is a container itself; callers in deeper pods count as unknown.
const DEEPEST_POD: i32 = 16;

#[cgroup_sock_addr(connect4)]
pub fn tproxy_connect4(context: SockAddrContext) -> i32 {
    let call = Call::new(&context);
    match decide(&context, call.address4()) {
        Ok(Some(target)) => call.set_address4(&target),
        Ok(None) => {}
        Err(errno) => return refuse(errno),
    }
    PROCEED
}

/// IPv6, and IPv4 on IPv6 sockets: those never reach connect4.
#[cgroup_sock_addr(connect6)]
pub fn tproxy_connect6(context: SockAddrContext) -> i32 {
    let call = Call::new(&context);
    match decide(&context, call.address6()) {
        Ok(Some(target)) => call.set_address6(&target),
        Ok(None) => {}
        Err(errno) => return refuse(errno),
    }
    PROCEED
}

/// The new destination, nothing for "go on", or the error of `connect`.
#[inline(always)]
fn decide(context: &SockAddrContext, address: Endpoint) -> Result<Option<Endpoint>, i32> {
    let call = Call::new(context);
    let attempt = Attempt {
        address,
        transport: call.transport(),
    };
    count(Counter::Seen);
    let maps = KernelMaps {
        socket: call.socket(),
        pod: Cell::new(0),
    };
    match verdict(&attempt, &maps) {
        Verdict::Pass => Ok(None),
        Verdict::Exempt => {
            count(Counter::Exempt);
            Ok(None)
        }
        Verdict::Redirect(target) => redirect(context, address, target, maps.cgroup()).map(Some),
        Verdict::Refuse(reason) => {
            let counter = match reason {
                Refusal::Port => Counter::RefusedPort,
                Refusal::Udp => Counter::RefusedUdp,
                Refusal::Scope => Counter::RefusedScope,
            };
            count_for(&address.ip, counter);
            report(address, reason, maps.cgroup());
            if tells() {
                debug!(
                    context,
                    "connect to {:i} port {} refused",
                    shown(&address.ip),
                    address.port
                );
            }
            Err(ECONNREFUSED)
        }
    }
}

#[inline(always)]
fn redirect(
    context: &SockAddrContext,
    address: Endpoint,
    target: Endpoint,
    cgroup: u64,
) -> Result<Endpoint, i32> {
    let wanted = Wanted::new(origin(context, address, cgroup), target);
    // SAFETY: the socket of the context, a record on the stack.
    if !unsafe { maps::store(&WANTED, Call::new(context).socket(), &wanted) } {
        count_for(&address.ip, Counter::RefusedMemory);
        return Err(ENOMEM);
    }
    count_for(&address.ip, Counter::Redirected);
    if tells() {
        debug!(
            context,
            "connect to {:i} port {} redirected to {:i} port {}",
            shown(&address.ip),
            address.port,
            shown(&target.ip),
            target.port
        );
    }
    Ok(target)
}

#[inline(always)]
fn origin(context: &SockAddrContext, address: Endpoint, cgroup: u64) -> Origin {
    // SAFETY: helpers without arguments, or with the context as it was given to us.
    let (netns, now) = unsafe { (bpf_get_netns_cookie(context.as_ptr()), bpf_ktime_get_ns()) };
    Origin::new(address, cgroup, netns, now)
}

/// Tells user space, if somebody listens and there is room. Nothing depends on it.
#[inline(always)]
fn report(address: Endpoint, reason: Refusal, cgroup: u64) {
    if REPORT_REFUSALS.load() == 0 {
        return;
    }
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    if REFUSALS
        .output(&Refused::new(cgroup, now, address, reason), 0)
        .is_err()
    {
        count(Counter::ReportLost);
    }
}

#[inline(always)]
fn refuse(errno: i32) -> i32 {
    if HAVE_SET_RETVAL.load() != 0 {
        // SAFETY: takes a plain number.
        unsafe { bpf_set_retval(-errno) };
    }
    REFUSE
}

/// For the log; an IPv4 address shows as `::ffff:a.b.c.d`.
#[inline(always)]
fn shown(ip: &Ip) -> Ipv6Addr {
    let [a, b, c, d] = ip.0.map(|word| u128::from(u32::from_be(word)));
    Ipv6Addr::from_bits(a << 96 | b << 64 | c << 32 | d)
}

struct KernelMaps {
    socket: *mut bpf_sock,
    /// The cgroup of the caller's pod, once that was asked for and is known; else 0.
    pod: Cell<u64>,
}

impl KernelMaps {
    /// What tells user space who calls. It need not know all that a pod has made below its own.
    #[inline(always)]
    fn cgroup(&self) -> u64 {
        match self.pod.get() {
            // SAFETY: a helper without arguments.
            0 => unsafe { bpf_get_current_cgroup_id() },
            pod => pod,
        }
    }
}

impl Tables for KernelMaps {
    #[inline(always)]
    fn is_virtual(&self, ip: &Ip) -> bool {
        VIRTUAL_IPS.get_ptr(ip).is_some()
    }

    #[inline(always)]
    fn target(&self, address: &Endpoint) -> Option<Target> {
        // SAFETY: the entry is written as a whole, by user space.
        unsafe { TARGETS.get(address) }.copied()
    }

    #[inline(always)]
    fn is_exempt(&self) -> bool {
        // SAFETY: the socket of the context.
        unsafe { maps::stored(&EXEMPT, self.socket) }.is_some()
    }

    /// Of the task: the cgroup of its pod is above it. The socket's could be another pod's, if it
    /// was handed over.
    #[inline(always)]
    fn caller(&self) -> Option<NamespaceNumber> {
        // From the top, because what is called like a pod inside of a pod is still that pod's.
        for level in 1..=DEEPEST_POD {
            // SAFETY: a helper that takes a plain number, and says 0 where there is no such level.
            let cgroup = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
            if cgroup == 0 {
                return None;
            }
            // SAFETY: the entry is written as a whole, by user space.
            if let Some(namespace) = unsafe { CALLERS.get(cgroup) } {
                self.pod.set(cgroup);
                return Some(*namespace);
            }
        }
        None
    }
}
