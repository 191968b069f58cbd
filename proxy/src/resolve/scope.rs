//! Who may connect to a destination.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::pods::{Owner, Pod};

/// Whom a destination is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// Everybody in the cluster.
    Cluster,
    /// Pods of one namespace.
    Namespace(Arc<str>),
}

/// Who opened a connection, as far as that is certain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    Pod(Arc<Pod>),
    /// Somebody in the proxy's own pod: the kubelet on behalf of `kubectl port-forward`, which
    /// the API server allows or not.
    PortForward,
    Unknown(Unknown),
}

/// Why it is not known who a caller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unknown {
    /// The kernel says that it is no pod.
    NodeProcess,
    /// The kernel says which pod it is, but the API server does not know it.
    Pod,
    /// Several may have sent from this address.
    SharedAddress,
    Address,
}

/// Why a caller may not connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refused {
    OtherNamespace,
    Unknown(Unknown),
}

impl Refused {
    /// Label of metrics, field of the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OtherNamespace => "other_namespace",
            Self::Unknown(Unknown::NodeProcess) => "node_process",
            Self::Unknown(Unknown::Pod) => "unknown_pod",
            Self::Unknown(Unknown::SharedAddress) => "shared_address",
            Self::Unknown(Unknown::Address) => "unknown_address",
        }
    }
}

impl Audience {
    pub fn admits(&self, caller: &Caller) -> Result<(), Refused> {
        match (self, caller) {
            (Self::Cluster, _) | (_, Caller::PortForward) => Ok(()),
            (Self::Namespace(namespace), Caller::Pod(pod)) if pod.namespace == *namespace => Ok(()),
            (Self::Namespace(_), Caller::Pod(_)) => Err(Refused::OtherNamespace),
            (Self::Namespace(_), Caller::Unknown(unknown)) => Err(Refused::Unknown(*unknown)),
        }
    }
}

impl Caller {
    /// By the source of a connection that comes without the kernel's word.
    pub fn by_address(owner: Owner) -> Self {
        match owner {
            Owner::Pod(pod) => Self::Pod(pod),
            Owner::Shared => Self::Unknown(Unknown::SharedAddress),
            Owner::Unknown => Self::Unknown(Unknown::Address),
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(pod) => pod.fmt(f),
            Self::PortForward => f.write_str("port-forward"),
            Self::Unknown(Unknown::NodeProcess) => f.write_str("a process of the node"),
            Self::Unknown(Unknown::Pod) => f.write_str("a pod that the API server does not know"),
            Self::Unknown(Unknown::SharedAddress) => f.write_str("somebody in a network of several"),
            Self::Unknown(Unknown::Address) => f.write_str("an unknown address"),
        }
    }
}

/// Where connections of `kubectl port-forward` come from. Other addresses of 127/8 are not
/// among them.
pub fn is_port_forward(source: IpAddr) -> bool {
    let source = source.to_canonical();
    source == Ipv4Addr::LOCALHOST || source == Ipv6Addr::LOCALHOST
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::pods::testing::pod_in;

    fn pod_of(namespace: &str) -> Caller {
        Caller::Pod(Arc::new(pod_in(namespace)))
    }

    const UNKNOWN: [Unknown; 4] = [
        Unknown::NodeProcess,
        Unknown::Pod,
        Unknown::SharedAddress,
        Unknown::Address,
    ];

    #[test]
    fn a_namespace_is_for_its_own_pods() {
        let shop = Audience::Namespace("shop".into());
        assert_eq!(shop.admits(&pod_of("shop")), Ok(()));
        assert_eq!(shop.admits(&pod_of("shop2")), Err(Refused::OtherNamespace));
        assert_eq!(shop.admits(&Caller::PortForward), Ok(()));
    }

    #[test]
    fn who_is_not_known_gets_what_is_for_everybody() {
        for unknown in UNKNOWN {
            let caller = Caller::Unknown(unknown);
            assert_eq!(
                Audience::Namespace("shop".into()).admits(&caller),
                Err(Refused::Unknown(unknown))
            );
            assert_eq!(Audience::Cluster.admits(&caller), Ok(()));
        }
        assert_eq!(Audience::Cluster.admits(&pod_of("other")), Ok(()));
    }

    #[test]
    fn port_forward_comes_from_two_addresses() {
        for source in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert!(is_port_forward(source.parse().unwrap()), "{source}");
        }
        for source in ["127.0.0.2", "10.0.0.1", "::", "0.0.0.0", "fe80::1"] {
            assert!(!is_port_forward(source.parse().unwrap()), "{source}");
        }
    }

    #[test]
    fn reasons_have_names_of_their_own() {
        let mut names: Vec<_> = UNKNOWN.map(|unknown| Refused::Unknown(unknown).as_str()).into();
        names.push(Refused::OtherNamespace.as_str());
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 5);
    }
}
