//! What the hook refused, one by one, for the log and for whoever counts by pod.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use aya::Ebpf;
use aya::maps::{MapData, RingBuf};
use proxy_common::{Refusal, Refused};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{Error, monotonic};

const MAP: &str = "REFUSALS";

/// One attempt that the hook refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefusedConnect {
    /// Inode of the caller's cgroup directory.
    pub cgroup: u64,
    /// The virtual IP and port.
    pub wanted: SocketAddr,
    pub reason: Refusal,
    pub at: SystemTime,
}

/// Reads the hook's reports. When nobody reads fast enough, the hook drops reports and
/// counts them ([`Snapshot::reports_lost`](super::Snapshot)); what it refuses stays refused.
pub struct Refusals(AsyncFd<RingBuf<MapData>>);

impl fmt::Debug for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Refusals")
    }
}

impl Refusals {
    /// `None` if somebody took it already.
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Option<Self>, Error> {
        let Some(map) = ebpf.take_map(MAP) else {
            return Ok(None);
        };
        let ring = RingBuf::try_from(map).map_err(|source| Error::Layout { what: MAP, source })?;
        // SAFETY: the ring buffer owns the map whose descriptor it returns, always the same one.
        #[expect(unsafe_code, reason = "`AsyncFd` cannot know that the descriptor stays open")]
        let registered = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
        match registered {
            Ok(ring) => Ok(Some(Self(ring))),
            Err(error) => Err(Error::Refusals {
                source: error.into_parts().1,
            }),
        }
    }

    /// Waits for the next one. Dropped while it waits, it loses nothing.
    pub async fn next(&mut self) -> io::Result<RefusedConnect> {
        loop {
            if let Some(refused) = self.read() {
                return Ok(refused);
            }
            let mut ready = self.0.readable_mut().await?;
            // What came since the look above is in the buffer when the loop looks again.
            ready.clear_ready();
            if let Some(refused) = self.read() {
                return Ok(refused);
            }
        }
    }

    /// Waits for the next one, and takes what waits behind it, so many at most. To take them one
    /// by one until none is left can last as long as somebody is refused, without ever waiting.
    pub async fn batch(&mut self, most: usize) -> io::Result<Vec<RefusedConnect>> {
        let mut batch = vec![self.next().await?];
        batch.extend(std::iter::from_fn(|| self.read()).take(most.saturating_sub(1)));
        Ok(batch)
    }

    /// Passes over reports that this version cannot read; there are none, unless somebody
    /// builds the two halves from different sources.
    fn read(&mut self) -> Option<RefusedConnect> {
        loop {
            let item = self.0.get_mut().next()?;
            if let Some(refused) = parse(&item) {
                return Some(refused);
            }
        }
    }
}

fn parse(report: &[u8]) -> Option<RefusedConnect> {
    if report.len() != size_of::<Refused>() {
        return None;
    }
    // SAFETY: as many bytes as the type has, which is plain old data, at any alignment.
    #[expect(unsafe_code, reason = "the ring buffer holds bytes")]
    let refused = unsafe { report.as_ptr().cast::<Refused>().read_unaligned() };
    let age = monotonic().saturating_sub(Duration::from_nanos(refused.at));
    Some(RefusedConnect {
        cgroup: refused.cgroup,
        wanted: refused.address.into(),
        reason: refused.reason()?,
        at: SystemTime::now().checked_sub(age)?,
    })
}
