//! Which destination has which virtual IP.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::resolve::destination::DestinationName;

#[derive(Debug, thiserror::Error)]
#[error(
    "{network} has no virtual IP left for the destination {name}: choose a larger network with --virtual-ips"
)]
pub struct Exhausted {
    pub network: IpNet,
    pub name: DestinationName,
}

/// Gives out the addresses of a network, in ascending order, without the first and the last one.
///
/// A destination keeps its address while the process lives, also over its removal and
/// return: an application may have looked the name up long ago, and must never reach
/// another destination by it.
#[derive(Debug)]
pub struct VirtualIpPool {
    network: IpNet,
    next: u128,
    given: HashMap<DestinationName, IpAddr>,
}

impl VirtualIpPool {
    pub fn new(network: IpNet) -> Self {
        Self {
            network,
            next: 1,
            given: HashMap::new(),
        }
    }

    /// The address of a destination, a new one if it has none. For the same order at
    /// every start, ask for the first ones sorted by name.
    pub fn address(&mut self, name: &DestinationName) -> Result<IpAddr, Exhausted> {
        if let Some(address) = self.given.get(name) {
            return Ok(*address);
        }
        if self.next >= self.last_offset() {
            return Err(Exhausted {
                network: self.network,
                name: name.clone(),
            });
        }
        let address = self.nth(self.next);
        self.next += 1;
        self.given.insert(name.clone(), address);
        Ok(address)
    }

    /// Offset of the network's last address.
    fn last_offset(&self) -> u128 {
        let host_bits = self.network.max_prefix_len() - self.network.prefix_len();
        u128::MAX >> (128 - u32::from(host_bits)).min(127)
    }

    fn nth(&self, offset: u128) -> IpAddr {
        match self.network.network() {
            IpAddr::V4(first) => {
                let offset = u32::try_from(offset).expect("less than the size of an IPv4 network");
                Ipv4Addr::from_bits(first.to_bits() + offset).into()
            }
            IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits() + offset).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> DestinationName {
        DestinationName::new_unchecked(text)
    }

    fn pool(network: &str) -> VirtualIpPool {
        VirtualIpPool::new(network.parse().unwrap())
    }

    #[test]
    fn addresses_ascend_from_the_second_one() {
        let mut pool = pool("127.66.0.0/16");
        assert_eq!(pool.address(&name("a")).unwrap().to_string(), "127.66.0.1");
        assert_eq!(pool.address(&name("b")).unwrap().to_string(), "127.66.0.2");
    }

    #[test]
    fn a_destination_keeps_its_address() {
        let mut pool = pool("127.66.0.0/16");
        let first = pool.address(&name("a")).unwrap();
        pool.address(&name("b")).unwrap();
        assert_eq!(pool.address(&name("a")).unwrap(), first);
    }

    #[test]
    fn the_last_address_is_not_used() {
        let mut pool = pool("127.66.0.0/30");
        pool.address(&name("a")).unwrap();
        assert_eq!(pool.address(&name("b")).unwrap().to_string(), "127.66.0.2");
        let error = pool.address(&name("c")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "127.66.0.0/30 has no virtual IP left for the destination c: choose a larger network with --virtual-ips"
        );
        assert!(pool.address(&name("a")).is_ok());
    }

    #[test]
    fn ipv6_networks_work_too() {
        assert_eq!(
            pool("fd00::/64").address(&name("a")).unwrap().to_string(),
            "fd00::1"
        );
    }

    #[test]
    fn a_network_of_256_addresses_gives_254() {
        let mut pool = pool("127.66.1.0/24");
        let last = (0..254)
            .map(|n| pool.address(&name(&format!("d{n}"))).unwrap())
            .last();
        assert_eq!(last.unwrap().to_string(), "127.66.1.254");
        assert!(pool.address(&name("one-too-many")).is_err());
    }
}
