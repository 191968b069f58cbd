//! Carries the origin of a connection from the socket that connects to the socket that
//! is accepted. Both ends know the same four numbers, so they are the key in between.

use core::ptr::read_volatile;

use aya_ebpf::bindings::{
    BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG,
    BPF_SOCK_OPS_TCP_CONNECT_CB, bpf_sock, bpf_sock_ops,
};
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use proxy_common::{Counter, Endpoint, Flow, Ip};

use crate::maps::{self, FLOWS, ORIGINS, WANTED, count};

const AF_INET: u32 = 2;
const TCP_ESTABLISHED: u32 = 1;
const TCP_CLOSE: u32 = 7;

/// Anything but 1 would discard the replies of other programs on this hook.
const DONE: u32 = 1;

#[sock_ops]
pub fn tproxy_sock_ops(context: SockOpsContext) -> u32 {
    match context.op() {
        BPF_SOCK_OPS_TCP_CONNECT_CB => remember(&context),
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => hand_over(&context),
        BPF_SOCK_OPS_STATE_CB => forget(&context),
        _ => None,
    };
    DONE
}

/// Before the SYN is sent: with TCP Fast Open the server may accept at once.
#[inline(always)]
fn remember(context: &SockOpsContext) -> Option<()> {
    let socket = socket(context)?;
    let ends = Ends::read(context);
    // SAFETY: a socket that was checked; the record lives as long as the socket.
    let wanted = unsafe { maps::stored(&WANTED, socket)? };
    if unsafe { &*wanted }.target != ends.remote {
        return None; // connected elsewhere since
    }
    let flow = Flow {
        client: ends.local,
        proxy: ends.remote,
    };
    // SAFETY: a record in a map.
    if !unsafe { maps::begin_flow(&flow, &raw const (*wanted).origin) } {
        count(Counter::OriginLost);
        return None;
    }
    // Other programs may have asked for callbacks as well.
    let flags = context.cb_flags() | BPF_SOCK_OPS_STATE_CB_FLAG;
    context.set_cb_flags(flags as i32).ok()
}

#[inline(always)]
fn hand_over(context: &SockOpsContext) -> Option<()> {
    let socket = socket(context)?;
    let ends = Ends::read(context);
    let flow = Flow {
        client: ends.remote,
        proxy: ends.local,
    };
    let origin = FLOWS.get_ptr(flow)?;
    // SAFETY: a socket that was checked, a record in a map.
    let stored = unsafe { maps::store(&ORIGINS, socket, origin) };
    count(if stored {
        Counter::OriginRecorded
    } else {
        Counter::OriginLost
    });
    FLOWS.remove(flow).ok()
}

/// The connecting socket closes: if the handshake never reached the proxy, its entry is
/// still there. Not from ESTABLISHED, though: a client that aborts right after its
/// handshake may be faster than the last packet of it; user space sweeps what stays.
#[inline(always)]
fn forget(context: &SockOpsContext) -> Option<()> {
    let (from, to) = (context.arg(0), context.arg(1));
    if to != TCP_CLOSE || from == TCP_ESTABLISHED {
        return None;
    }
    let ends = Ends::read(context);
    FLOWS
        .remove(Flow {
            client: ends.local,
            proxy: ends.remote,
        })
        .ok()
}

#[inline(always)]
fn socket(context: &SockOpsContext) -> Option<*mut bpf_sock> {
    // SAFETY: the context pointer is valid while the program runs.
    let socket = unsafe { (*context.ops).__bindgen_anon_2.sk };
    (!socket.is_null()).then_some(socket)
}

/// The two ends as this socket sees them.
struct Ends {
    local: Endpoint,
    remote: Endpoint,
}

impl Ends {
    #[inline(always)]
    fn read(context: &SockOpsContext) -> Self {
        let ops: *const bpf_sock_ops = context.ops;
        // All fields first, each at its own constant offset: reads in two branches are
        // merged by the compiler into one from a computed address, which the verifier
        // rejects ("dereference of modified ctx ptr").
        // SAFETY: the context pointer is valid while the program runs.
        let (family, local4, remote4, local6, remote6, local_port, remote_port) = unsafe {
            (
                read_volatile(&raw const (*ops).family),
                read_volatile(&raw const (*ops).local_ip4),
                read_volatile(&raw const (*ops).remote_ip4),
                [
                    read_volatile(&raw const (*ops).local_ip6[0]),
                    read_volatile(&raw const (*ops).local_ip6[1]),
                    read_volatile(&raw const (*ops).local_ip6[2]),
                    read_volatile(&raw const (*ops).local_ip6[3]),
                ],
                [
                    read_volatile(&raw const (*ops).remote_ip6[0]),
                    read_volatile(&raw const (*ops).remote_ip6[1]),
                    read_volatile(&raw const (*ops).remote_ip6[2]),
                    read_volatile(&raw const (*ops).remote_ip6[3]),
                ],
                read_volatile(&raw const (*ops).local_port),
                read_volatile(&raw const (*ops).remote_port),
            )
        };
        // The local address of an IPv6 socket is not mapped yet when it connects to an
        // IPv4 peer; the IPv4 fields are right in that case too.
        let v4 = family == AF_INET || Ip(remote6).is_v4();
        let pick = |word4, words6| if v4 { Ip::from_v4_word(word4) } else { Ip(words6) };
        Self {
            local: Endpoint::new(pick(local4, local6), local_port as u16),
            // Network order in the whole word.
            remote: Endpoint::new(pick(remote4, remote6), u32::from_be(remote_port) as u16),
        }
    }
}
