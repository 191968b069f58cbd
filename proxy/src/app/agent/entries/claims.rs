//! Which Services say that a target port is theirs.
//!
//! The manager gives every destination a port of its own. Where two Services have the same one
//! all the same, somebody else has made it so, and the manager lets the older one keep it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::resolve::directory::Entrance;

#[derive(Debug, Default)]
pub(super) struct Claims {
    by_port: HashMap<u16, BTreeSet<Claim>>,
    by_service: HashMap<Arc<str>, (u16, Claim)>,
}

/// The order is that of the manager: it sorts a list, which is in the order of names, by age.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    created: i64,
    service: Arc<str>,
}

impl Claims {
    /// The Service has this entrance now, or none; gives the others that may be concerned.
    pub(super) fn set(&mut self, service: &Arc<str>, entrance: Option<&Entrance>) -> Vec<Arc<str>> {
        let mut ports = BTreeSet::new();
        if let Some((port, claim)) = self.by_service.remove(service) {
            ports.insert(port);
            self.withdraw(port, &claim);
        }
        if let Some(entrance) = entrance {
            ports.insert(entrance.target_port);
            self.claim(service, entrance);
        }
        let claims = ports.iter().filter_map(|port| self.by_port.get(port)).flatten();
        let others = claims.filter(|claim| claim.service != *service);
        others.map(|claim| Arc::clone(&claim.service)).collect()
    }

    /// The one that has this port, of those that claim it.
    pub(super) fn holder(&self, port: u16) -> Option<&Arc<str>> {
        self.by_port.get(&port)?.first().map(|claim| &claim.service)
    }

    pub(super) fn is_contested(&self, port: u16) -> bool {
        self.by_port.get(&port).is_some_and(|claims| claims.len() > 1)
    }

    fn claim(&mut self, service: &Arc<str>, entrance: &Entrance) {
        let claim = Claim {
            created: entrance.created,
            service: Arc::clone(service),
        };
        let port = entrance.target_port;
        self.by_port.entry(port).or_default().insert(claim.clone());
        self.by_service.insert(Arc::clone(service), (port, claim));
    }

    fn withdraw(&mut self, port: u16, claim: &Claim) {
        let Some(claims) = self.by_port.get_mut(&port) else {
            return;
        };
        claims.remove(claim);
        if claims.is_empty() {
            self.by_port.remove(&port);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::directory::{CrName, Speaks};

    fn entrance(service: &str, created: i64, target_port: u16) -> (Arc<str>, Entrance) {
        let entrance = Entrance {
            service: service.into(),
            cr: CrName {
                namespace: "shop".into(),
                name: service.into(),
            },
            addresses: [].into(),
            port: 80,
            target_port,
            speaks: Speaks::Http,
            created,
        };
        (service.into(), entrance)
    }

    #[test]
    fn the_older_one_has_the_port_and_of_the_same_age_the_first_by_name() {
        let mut claims = Claims::default();
        let (young, of_young) = entrance("a", 20, 10_001);
        assert!(claims.set(&young, Some(&of_young)).is_empty());
        assert_eq!(claims.holder(10_001), Some(&young));
        assert!(!claims.is_contested(10_001));
        let (old, of_old) = entrance("z", 10, 10_001);
        assert_eq!(claims.set(&old, Some(&of_old)), [Arc::clone(&young)]);
        assert_eq!(claims.holder(10_001), Some(&old));
        assert!(claims.is_contested(10_001));
        let (alike, of_alike) = entrance("b", 10, 10_001);
        claims.set(&alike, Some(&of_alike));
        assert_eq!(claims.holder(10_001), Some(&alike));
    }

    #[test]
    fn a_port_that_is_given_up_is_for_the_next() {
        let mut claims = Claims::default();
        let (old, of_old) = entrance("old", 10, 10_001);
        let (young, of_young) = entrance("young", 20, 10_001);
        claims.set(&old, Some(&of_old));
        claims.set(&young, Some(&of_young));
        let (_, moved) = entrance("old", 10, 10_002);
        assert_eq!(claims.set(&old, Some(&moved)), [Arc::clone(&young)]);
        assert_eq!(claims.holder(10_001), Some(&young));
        assert!(!claims.is_contested(10_001));
        claims.set(&young, None);
        claims.set(&old, None);
        assert!(claims.by_port.is_empty() && claims.by_service.is_empty());
    }
}
