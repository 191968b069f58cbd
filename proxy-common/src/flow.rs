//! The record of where a redirected connection wanted to go, and who opened it.
//!
//! It travels in three hops: [`Wanted`] on the connecting socket, [`Flow`] →
//! [`Origin`] while the handshake is under way, [`Origin`] on the accepted socket,
//! where the proxy reads it by file descriptor.

use crate::address::Endpoint;

/// Where the caller wanted to go, and who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Origin {
    /// The virtual IP and port that the caller connected to.
    pub address: Endpoint,
    /// `address` has 20 bytes; the words that follow want a multiple of 8.
    padding: u32,
    /// Inode of a cgroup v2 directory: that of the caller's pod, if the hook had to know the pod and
    /// did, else that of the calling task.
    pub cgroup: u64,
    /// `SO_NETNS_COOKIE` of the caller's network namespace.
    pub netns: u64,
    /// `CLOCK_MONOTONIC` at the connect call, in nanoseconds.
    pub connected_at: u64,
}

impl Origin {
    #[inline(always)]
    pub const fn new(address: Endpoint, cgroup: u64, netns: u64, connected_at: u64) -> Self {
        Self {
            address,
            padding: 0,
            cgroup,
            netns,
            connected_at,
        }
    }
}

/// What the connecting socket remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Wanted {
    pub origin: Origin,
    /// Where the connect was redirected to. A socket may be disconnected and
    /// connected elsewhere; then its peer is another one and this record is stale.
    pub target: Endpoint,
    /// Rounds the size up to the alignment of `origin`.
    padding: u32,
}

impl Wanted {
    #[inline(always)]
    pub const fn new(origin: Origin, target: Endpoint) -> Self {
        Self {
            origin,
            target,
            padding: 0,
        }
    }
}

/// The two ends of a TCP connection, the same seen from both of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Flow {
    pub client: Endpoint,
    pub proxy: Endpoint,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_records_have_no_hidden_padding() {
        assert_eq!(size_of::<Origin>(), 20 + 4 + 3 * 8);
        assert_eq!(size_of::<Wanted>(), 48 + 20 + 4);
        assert_eq!(size_of::<Flow>(), 2 * 20);
        assert_eq!(align_of::<Flow>(), 4);
        assert_eq!(align_of::<Wanted>(), 8);
    }
}
