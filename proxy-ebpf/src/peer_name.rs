//! getpeername4, getpeername6: applications that look at their peer see the virtual IP.

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use proxy_common::Endpoint;

use crate::maps::{self, WANTED};
use crate::sock_addr::{Call, PROCEED};

#[cgroup_sock_addr(getpeername4)]
pub fn tproxy_peer4(context: SockAddrContext) -> i32 {
    let call = Call::new(&context);
    if let Some(address) = virtual_address(call, call.address4()) {
        call.set_address4(&address);
    }
    PROCEED
}

#[cgroup_sock_addr(getpeername6)]
pub fn tproxy_peer6(context: SockAddrContext) -> i32 {
    let call = Call::new(&context);
    if let Some(address) = virtual_address(call, call.address6()) {
        call.set_address6(&address);
    }
    PROCEED
}

/// What the application connected to, if we redirected it to `peer`.
#[inline(always)]
fn virtual_address(call: Call, peer: Endpoint) -> Option<Endpoint> {
    // SAFETY: the socket of the context; the record lives as long as the socket.
    let wanted = unsafe { &*maps::stored(&WANTED, call.socket())? };
    (wanted.target == peer).then_some(wanted.origin.address)
}
