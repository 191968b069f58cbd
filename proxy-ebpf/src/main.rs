//! The eBPF programs: redirect `connect(2)` from a virtual IP to the proxy, keep the
//! illusion of the virtual IP, remember who wanted what.
//!
//! Written for a process with CAP_BPF and CAP_NET_ADMIN alone. Without CAP_PERFMON the
//! verifier forbids pointer arithmetic on the stack and comparisons of pointers, so
//! records go from map to map through helpers, never by copying structures.
#![no_std]
#![no_main]

mod connect;
mod maps;
mod peer_name;
mod sock_addr;
mod sock_ops;

/// None of the helpers used here is reserved for GPL-compatible programs.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 11] = *b"Apache-2.0\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
