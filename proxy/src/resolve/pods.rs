//! Which pod is which: by uid and by address.
//!
//! Only what tells callers apart is kept of a pod, so that all pods of a large cluster fit
//! in a few megabytes.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// 128 bits, however they are written: with hyphens in the API, with underscores in the names
/// of cgroups that systemd makes, and without either for pods of static manifests, whose
/// cgroups are named by a hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PodUid(u128);

impl TryFrom<String> for PodUid {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("no uid of a pod")
    }
}

impl From<PodUid> for String {
    fn from(uid: PodUid) -> Self {
        format!("{uid:?}")
    }
}

impl PodUid {
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().filter(|byte| !matches!(byte, b'-' | b'_'));
        let mut uid = 0;
        let mut count = 0;
        for digit in digits {
            uid = uid << 4 | u128::from(char::from(digit).to_digit(16)?);
            count += 1;
        }
        (count == 32).then_some(Self(uid))
    }
}

impl fmt::Debug for PodUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// One pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    pub uid: PodUid,
    /// Of a static pod, the one that its cgroups are named by.
    pub cgroup_uid: Option<PodUid>,
    pub namespace: Arc<str>,
    pub name: Box<str>,
    pub addresses: Box<[IpAddr]>,
    /// Its addresses are the node's.
    pub host_network: bool,
    /// Nothing runs in it any more, so its addresses may be somebody else's.
    pub ended: bool,
    /// It has been deleted and may still run for a while.
    pub terminating: bool,
}

impl fmt::Display for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Whose address it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    Pod(Arc<Pod>),
    /// Several have it, such as the pods and processes in a node's own network.
    Shared,
    Unknown,
}

/// The pods that are known, as lists and watches tell them.
#[derive(Debug, Default)]
pub struct Pods {
    by_uid: HashMap<PodUid, Arc<Pod>>,
    by_cgroup: HashMap<PodUid, PodUid>,
    by_address: HashMap<IpAddr, SmallVec<[PodUid; 1]>>,
    namespaces: HashSet<Arc<str>>,
    /// What a list that is under way has not mentioned yet.
    unconfirmed: Option<HashSet<PodUid>>,
}

impl Pods {
    pub fn by_uid(&self, uid: PodUid) -> Option<&Arc<Pod>> {
        let uid = self.by_cgroup.get(&uid).unwrap_or(&uid);
        self.by_uid.get(uid)
    }

    pub fn by_address(&self, address: IpAddr) -> Owner {
        let uids = self.by_address.get(&address.to_canonical());
        let all = uids.into_iter().flatten().filter_map(|uid| self.by_uid.get(uid));
        let running: SmallVec<[&Arc<Pod>; 2]> = all.filter(|pod| !pod.ended).collect();
        if running.iter().any(|pod| pod.host_network) {
            return Owner::Shared;
        }
        // An address is given to a new pod as soon as the old one has no use for it, which
        // may be before that is gone from the API.
        let staying: SmallVec<[&Arc<Pod>; 2]> =
            running.iter().copied().filter(|pod| !pod.terminating).collect();
        match (&running[..], &staying[..]) {
            ([], _) => Owner::Unknown,
            ([pod], _) | (_, [pod]) => Owner::Pod(Arc::clone(pod)),
            _ => Owner::Shared,
        }
    }

    pub fn len(&self) -> usize {
        self.by_uid.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_uid.is_empty()
    }

    /// The name of a namespace, shared by its pods.
    pub fn namespace(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.namespaces.get(name) {
            return Arc::clone(known);
        }
        let name: Arc<str> = name.into();
        self.namespaces.insert(Arc::clone(&name));
        name
    }

    /// Whether that changes anything.
    pub fn apply(&mut self, mut pod: Pod) -> bool {
        for address in &mut pod.addresses {
            *address = address.to_canonical();
        }
        if let Some(unconfirmed) = &mut self.unconfirmed {
            unconfirmed.remove(&pod.uid);
        }
        if self.by_uid.get(&pod.uid).is_some_and(|known| **known == pod) {
            return false;
        }
        self.remove(pod.uid);
        for address in &pod.addresses {
            self.by_address.entry(*address).or_default().push(pod.uid);
        }
        if let Some(uid) = pod.cgroup_uid {
            self.by_cgroup.insert(uid, pod.uid);
        }
        self.by_uid.insert(pod.uid, Arc::new(pod));
        true
    }

    pub fn remove(&mut self, uid: PodUid) {
        let Some(pod) = self.by_uid.remove(&uid) else {
            return;
        };
        for address in &pod.addresses {
            if let Some(uids) = self.by_address.get_mut(address) {
                uids.retain(|known| *known != uid);
                if uids.is_empty() {
                    self.by_address.remove(address);
                }
            }
        }
        // A mirror that was made again has the same cgroups, and may be known before the old one is gone.
        if let Some(cgroup) = pod.cgroup_uid
            && self.by_cgroup.get(&cgroup) == Some(&uid)
        {
            self.by_cgroup.remove(&cgroup);
        }
    }

    /// Adds what is not known yet, from a memory that may be old: a list decides what stays.
    pub fn restore(&mut self, pod: Pod) {
        let uid = pod.uid;
        if self.by_uid.contains_key(&uid) {
            return;
        }
        self.apply(pod);
        if let Some(unconfirmed) = &mut self.unconfirmed {
            unconfirmed.insert(uid);
        }
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.by_uid.values()
    }

    /// A complete list begins; what is known stays until it ends.
    pub fn begin_list(&mut self) {
        self.unconfirmed = Some(self.by_uid.keys().copied().collect());
    }

    /// Removes what the list has not mentioned.
    pub fn end_list(&mut self) {
        for uid in self.unconfirmed.take().unwrap_or_default() {
            self.remove(uid);
        }
        // Names of namespaces that nobody is in any more.
        self.namespaces.retain(|name| Arc::strong_count(name) > 1);
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::{Pod, PodUid};

    pub(crate) fn pod_in(namespace: &str) -> Pod {
        Pod {
            uid: PodUid(1),
            cgroup_uid: None,
            namespace: namespace.into(),
            name: "app".into(),
            addresses: [].into(),
            host_network: false,
            ended: false,
            terminating: false,
        }
    }
}

#[cfg(test)]
mod tests;
