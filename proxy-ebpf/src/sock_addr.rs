//! The context of connect and getpeername hooks, field by field.
//!
//! The verifier wants every access to be of the field's own width and at a constant
//! offset; volatile accesses keep the compiler from merging or splitting them.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use aya_ebpf::programs::SockAddrContext;
use proxy_common::{Endpoint, Ip, Transport};

/// What a program tells the kernel.
pub const PROCEED: i32 = 1;
pub const REFUSE: i32 = 0;

#[derive(Clone, Copy)]
pub struct Call(*mut bpf_sock_addr);

// SAFETY (all methods): the context pointer is valid while the program runs.
impl Call {
    #[inline(always)]
    pub fn new(context: &SockAddrContext) -> Self {
        Self(context.sock_addr)
    }

    #[inline(always)]
    pub fn socket(self) -> *mut bpf_sock {
        unsafe { (*self.0).__bindgen_anon_1.sk }
    }

    #[inline(always)]
    pub fn transport(self) -> Transport {
        let socket_type = unsafe { read_volatile(&raw const (*self.0).type_) };
        let protocol = unsafe { read_volatile(&raw const (*self.0).protocol) };
        Transport::of(socket_type, protocol)
    }

    #[inline(always)]
    pub fn address4(self) -> Endpoint {
        let ip = unsafe { read_volatile(&raw const (*self.0).user_ip4) };
        Endpoint::new(Ip::from_v4_word(ip), self.port())
    }

    #[inline(always)]
    pub fn address6(self) -> Endpoint {
        let ip = unsafe {
            [
                read_volatile(&raw const (*self.0).user_ip6[0]),
                read_volatile(&raw const (*self.0).user_ip6[1]),
                read_volatile(&raw const (*self.0).user_ip6[2]),
                read_volatile(&raw const (*self.0).user_ip6[3]),
            ]
        };
        Endpoint::new(Ip(ip), self.port())
    }

    #[inline(always)]
    pub fn set_address4(self, address: &Endpoint) {
        unsafe { write_volatile(&raw mut (*self.0).user_ip4, address.ip.0[3]) };
        self.set_port(address.port);
    }

    /// Also right for mapped addresses, which is what IPv4 looks like in an [`Ip`].
    #[inline(always)]
    pub fn set_address6(self, address: &Endpoint) {
        unsafe {
            write_volatile(&raw mut (*self.0).user_ip6[0], address.ip.0[0]);
            write_volatile(&raw mut (*self.0).user_ip6[1], address.ip.0[1]);
            write_volatile(&raw mut (*self.0).user_ip6[2], address.ip.0[2]);
            write_volatile(&raw mut (*self.0).user_ip6[3], address.ip.0[3]);
        }
        self.set_port(address.port);
    }

    #[inline(always)]
    fn port(self) -> u16 {
        // Network order in the lower half of the word.
        let port = unsafe { read_volatile(&raw const (*self.0).user_port) };
        u16::from_be(port as u16)
    }

    #[inline(always)]
    fn set_port(self, port: u16) {
        unsafe { write_volatile(&raw mut (*self.0).user_port, u32::from(port.to_be())) };
    }
}
