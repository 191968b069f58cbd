//! Where an accepted connection wanted to go, and who opened it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aya::maps::{HashMap, MapData, MapError, SkStorage};
use proxy_common::{Flow, Origin};

use super::monotonic;

/// What the kernel recorded when the caller called `connect`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The virtual IP and port.
    pub wanted: SocketAddr,
    /// Inode of the caller's cgroup directory, or of its pod's if the hook had to know that.
    pub cgroup: u64,
    /// `SO_NETNS_COOKIE` of the caller's network namespace.
    pub netns: u64,
}

#[derive(Debug, Clone)]
pub struct Origins {
    accepted: Arc<SkStorage<MapData, Origin>>,
    flows: Arc<Mutex<HashMap<MapData, Flow, Origin>>>,
}

impl Origins {
    pub(super) fn new(accepted: SkStorage<MapData, Origin>, flows: HashMap<MapData, Flow, Origin>) -> Self {
        Self {
            accepted: Arc::new(accepted),
            flows: Arc::new(Mutex::new(flows)),
        }
    }

    /// The origin of an accepted connection; `None` if it came without our redirection.
    pub fn of(&self, accepted: impl AsFd) -> io::Result<Option<Caller>> {
        match self.accepted.get(&accepted.as_fd(), 0) {
            Ok(origin) => Ok(Some(Caller {
                wanted: origin.address.into(),
                cgroup: origin.cgroup,
                netns: origin.netns,
            })),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(MapError::SyscallError(error)) => Err(error.io_error),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// How many handshakes are under way; 0 when nothing is connecting.
    pub fn handshakes(&self) -> usize {
        self.lock().keys().flatten().count()
    }

    /// Removes handshakes that began longer ago than `age`: of clients that gave up in
    /// the moment in which their connection was established. Returns how many. To be
    /// called now and then, with more than the two minutes that a handshake can take.
    pub fn sweep(&self, age: Duration) -> usize {
        let Some(oldest) = monotonic().checked_sub(age) else {
            return 0;
        };
        let mut flows = self.lock();
        let stale: Vec<Flow> = flows
            .iter()
            .filter_map(Result::ok)
            .filter(|(_, origin)| Duration::from_nanos(origin.connected_at) < oldest)
            .map(|(flow, _)| flow)
            .collect();
        stale.iter().filter(|flow| flows.remove(flow).is_ok()).count()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<MapData, Flow, Origin>> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
