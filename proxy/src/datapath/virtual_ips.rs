//! Which virtual IP and port leads to which listener of ours, and who may connect.

use std::collections::{BTreeSet, HashMap as StdHashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use aya::maps::{HashMap, MapData, MapError};
use proxy_common::{Endpoint, Ip, NamespaceNumber, Target};

#[derive(Debug, thiserror::Error)]
pub enum VirtualIpError {
    #[error("the virtual address {virtual_address} and the proxy's {proxy} are of different IP versions")]
    Family {
        virtual_address: SocketAddr,
        proxy: SocketAddr,
    },
    #[error("the virtual address {virtual_address} has no port")]
    NoPort { virtual_address: SocketAddr },
    #[error("the table of virtual IPs in the kernel cannot be changed for {virtual_address}")]
    Map {
        virtual_address: SocketAddr,
        #[source]
        source: MapError,
    },
}

/// Writes the kernel's tables; clones write the same ones.
#[derive(Debug, Clone)]
pub struct VirtualIps(Arc<Mutex<MapsOfVirtualIps>>);

#[derive(Debug)]
struct MapsOfVirtualIps {
    ips: HashMap<MapData, Ip, u32>,
    targets: HashMap<MapData, Endpoint, Target>,
    ports: StdHashMap<Ip, BTreeSet<u16>>,
}

impl VirtualIps {
    pub(super) fn new(ips: HashMap<MapData, Ip, u32>, targets: HashMap<MapData, Endpoint, Target>) -> Self {
        Self(Arc::new(Mutex::new(MapsOfVirtualIps {
            ips,
            targets,
            ports: StdHashMap::new(),
        })))
    }

    /// Redirects `virtual_address` to `proxy` from now on. From the first port of an IP
    /// on, all its other ports are refused, and so are callers that are known to be of
    /// another namespace than `namespace`.
    ///
    /// What is there already is replaced, listener and namespace at once: a connect sees
    /// either the old ones or the new ones.
    pub fn insert(
        &self,
        virtual_address: SocketAddr,
        proxy: SocketAddr,
        namespace: NamespaceNumber,
    ) -> Result<(), VirtualIpError> {
        let key = Endpoint::from(virtual_address);
        let target = Target::new(proxy.into(), namespace);
        if key.ip.is_v4() != target.proxy.ip.is_v4() {
            return Err(VirtualIpError::Family {
                virtual_address,
                proxy,
            });
        }
        if key.port == 0 {
            return Err(VirtualIpError::NoPort { virtual_address });
        }
        self.lock()
            .insert(key, target)
            .map_err(|source| VirtualIpError::Map {
                virtual_address,
                source,
            })
    }

    /// Does nothing if the address leads elsewhere by now, or nowhere.
    pub fn remove_if_to(&self, virtual_address: SocketAddr, proxy: SocketAddr) -> Result<(), VirtualIpError> {
        let key = virtual_address.into();
        let mut maps = self.lock();
        let removed = match maps.targets.get(&key, 0) {
            Ok(target) if target.proxy == proxy.into() => maps.remove(key),
            Ok(_) | Err(MapError::KeyNotFound) => Ok(()),
            Err(error) => Err(error),
        };
        removed.map_err(|source| VirtualIpError::Map {
            virtual_address,
            source,
        })
    }

    /// Does nothing if the address is not there.
    pub fn remove(&self, virtual_address: SocketAddr) -> Result<(), VirtualIpError> {
        self.lock()
            .remove(virtual_address.into())
            .map_err(|source| VirtualIpError::Map {
                virtual_address,
                source,
            })
    }

    /// Where the kernel leads connections to this address, and which namespace it is for.
    pub fn target(
        &self,
        virtual_address: SocketAddr,
    ) -> Result<Option<(SocketAddr, NamespaceNumber)>, VirtualIpError> {
        match self.lock().targets.get(&virtual_address.into(), 0) {
            Ok(target) => Ok(Some((target.proxy.into(), target.namespace))),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(source) => Err(VirtualIpError::Map {
                virtual_address,
                source,
            }),
        }
    }

    /// Whether the IP is one of ours, whatever the port.
    pub fn contains(&self, ip: std::net::IpAddr) -> bool {
        self.lock().ports.contains_key(&ip.into())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, MapsOfVirtualIps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MapsOfVirtualIps {
    /// The port first, then the IP: before, the address is foreign, afterwards served,
    /// and at no time a virtual IP without ports.
    fn insert(&mut self, key: Endpoint, target: Target) -> Result<(), MapError> {
        self.targets.insert(key, target, 0)?;
        let ports = self.ports.entry(key.ip).or_default();
        let is_new = ports.insert(key.port);
        let served = u32::try_from(ports.len()).unwrap_or(u32::MAX);
        let inserted = self.ips.insert(key.ip, served, 0);
        if inserted.is_err() && is_new {
            // The table is full: as if nothing had happened.
            ports.remove(&key.port);
            if ports.is_empty() {
                self.ports.remove(&key.ip);
            }
            self.targets.remove(&key)?;
        }
        inserted
    }

    /// The port first here, too: in between it is refused and does not leave the machine.
    fn remove(&mut self, key: Endpoint) -> Result<(), MapError> {
        let Some(ports) = self.ports.get_mut(&key.ip) else {
            return Ok(());
        };
        if !ports.remove(&key.port) {
            return Ok(());
        }
        let last = ports.is_empty();
        let left = u32::try_from(ports.len()).unwrap_or(u32::MAX);
        self.targets.remove(&key)?;
        if last {
            self.ports.remove(&key.ip);
            return self.ips.remove(&key.ip);
        }
        self.ips.insert(key.ip, left, 0)
    }
}
