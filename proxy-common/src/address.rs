//! Addresses as the maps hold them: one form for IPv4 and IPv6.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The third word of `::ffff:a.b.c.d`.
const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

/// An IP address of 16 bytes in network order, as four words the way the kernel's
/// context structures hold them. IPv4 is written `::ffff:a.b.c.d`, so that an IPv4
/// socket and an IPv6 socket with a mapped address find the same map entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Ip(pub [u32; 4]);

impl Ip {
    /// `word` holds the four bytes of the address in network order.
    #[inline(always)]
    pub const fn from_v4_word(word: u32) -> Self {
        Self([0, 0, MAPPED, word])
    }

    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == MAPPED
    }

    pub fn bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        for (to, word) in bytes.chunks_exact_mut(4).zip(self.0) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }
}

impl From<Ipv4Addr> for Ip {
    fn from(ip: Ipv4Addr) -> Self {
        Self::from_v4_word(u32::from_ne_bytes(ip.octets()))
    }
}

impl From<Ipv6Addr> for Ip {
    fn from(ip: Ipv6Addr) -> Self {
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(ip.octets().chunks_exact(4)) {
            *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        Self(words)
    }
}

impl From<IpAddr> for Ip {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => ip.into(),
            IpAddr::V6(ip) => ip.into(),
        }
    }
}

impl From<Ip> for IpAddr {
    /// A mapped address becomes IPv4.
    fn from(ip: Ip) -> Self {
        Ipv6Addr::from(ip.bytes()).to_canonical()
    }
}

impl fmt::Debug for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&IpAddr::from(*self), f)
    }
}

/// An address and a port.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Endpoint {
    pub ip: Ip,
    /// Host byte order.
    pub port: u16,
    /// Rounds the size up to the alignment of `ip`. Always zero: map keys are compared as bytes.
    padding: u16,
}

impl Endpoint {
    #[inline(always)]
    pub const fn new(ip: Ip, port: u16) -> Self {
        Self { ip, port, padding: 0 }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::new(address.ip().into(), address.port())
    }
}

impl From<Endpoint> for SocketAddr {
    fn from(endpoint: Endpoint) -> Self {
        Self::new(endpoint.ip.into(), endpoint.port)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&SocketAddr::from(*self), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_endpoint_has_no_hidden_padding() {
        assert_eq!(size_of::<Ip>(), 16);
        assert_eq!(size_of::<Endpoint>(), 16 + 2 + 2);
        assert_eq!(align_of::<Endpoint>(), 4);
    }

    #[test]
    fn ipv4_and_its_mapped_form_are_the_same_key() {
        let v4 = Ipv4Addr::new(10, 96, 0, 10);
        assert_eq!(Ip::from(v4), Ip::from(v4.to_ipv6_mapped()));
        assert!(Ip::from(v4).is_v4());
        assert!(!Ip::from(Ipv6Addr::LOCALHOST).is_v4());
    }

    proptest! {
        #[test]
        fn addresses_survive_the_way_into_the_map_and_back(ip: IpAddr, port: u16) {
            let address = SocketAddr::new(ip, port);
            let canonical = SocketAddr::new(ip.to_canonical(), port);
            prop_assert_eq!(SocketAddr::from(Endpoint::from(address)), canonical);
        }
    }
}
