//! Addresses that must not be dialled because they lead back to this proxy.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use arc_swap::ArcSwap;

/// The virtual IPs and listeners of this proxy; replaced as a whole when they change.
#[derive(Debug, Default)]
pub struct OwnAddresses(ArcSwap<Set>);

#[derive(Debug, Default)]
struct Set {
    virtual_ips: HashSet<IpAddr>,
    listeners: HashSet<SocketAddr>,
    /// Ports of listeners on all addresses of the machine.
    wildcard_ports: HashSet<u16>,
}

impl OwnAddresses {
    pub fn replace(
        &self,
        virtual_ips: impl IntoIterator<Item = IpAddr>,
        listeners: impl IntoIterator<Item = SocketAddr>,
    ) {
        let (wildcard, exact): (Vec<_>, Vec<_>) = listeners
            .into_iter()
            .map(canonical)
            .partition(|listener| listener.ip().is_unspecified());
        self.0.store(std::sync::Arc::new(Set {
            virtual_ips: virtual_ips.into_iter().map(|ip| ip.to_canonical()).collect(),
            listeners: exact.into_iter().collect(),
            wildcard_ports: wildcard.into_iter().map(|listener| listener.port()).collect(),
        }));
    }

    pub fn contains(&self, address: SocketAddr) -> bool {
        let set = self.0.load();
        let address = canonical(address);
        set.virtual_ips.contains(&address.ip())
            || set.listeners.contains(&address)
            || (address.ip().is_unspecified() && set.listeners.iter().any(|own| own.port() == address.port()))
            || (set.wildcard_ports.contains(&address.port()) && is_of_this_machine(address.ip()))
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Only addresses of this machine can be bound. Asked rarely: when the port is one of ours.
fn is_of_this_machine(ip: IpAddr) -> bool {
    ip.is_unspecified() || ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_ips_and_listeners_are_own_in_every_notation() {
        let own = OwnAddresses::default();
        own.replace(
            ["127.66.0.1".parse().unwrap()],
            ["127.0.0.1:15001".parse().unwrap(), "[::]:15002".parse().unwrap()],
        );
        for address in [
            "127.66.0.1:443",
            "[::ffff:127.66.0.1]:443",
            "127.0.0.1:15001",
            "0.0.0.0:15001",
            "127.0.0.9:15002",
            "[::1]:15002",
            "0.0.0.0:15002",
        ] {
            assert!(own.contains(address.parse().unwrap()), "{address}");
        }
        for address in ["127.66.0.2:443", "127.0.0.1:15003", "192.0.2.1:15002"] {
            assert!(!own.contains(address.parse().unwrap()), "{address}");
        }
    }
}
