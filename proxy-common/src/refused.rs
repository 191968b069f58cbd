//! What the hook reports about an attempt that it refused.

use crate::address::Endpoint;
use crate::verdict::Refusal;

/// One refusal, as it lies in the ring buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Refused {
    /// As in [`Origin`](crate::Origin).
    pub cgroup: u64,
    /// `CLOCK_MONOTONIC` at the connect call, in nanoseconds.
    pub at: u64,
    /// The virtual IP and port that the caller asked for.
    pub address: Endpoint,
    /// A [`Refusal`]; a number, since any may be read here.
    reason: u32,
}

impl Refused {
    #[inline(always)]
    pub const fn new(cgroup: u64, at: u64, address: Endpoint, reason: Refusal) -> Self {
        Self {
            cgroup,
            at,
            address,
            reason: reason.code(),
        }
    }

    /// `None` if it is of a later version than this reader.
    pub const fn reason(&self) -> Option<Refusal> {
        Refusal::from_code(self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{Ipv4Addr, SocketAddr};

    #[test]
    fn a_report_has_no_hidden_padding() {
        assert_eq!(size_of::<Refused>(), 2 * 8 + 20 + 4);
        assert_eq!(align_of::<Refused>(), 8);
    }

    #[test]
    fn reasons_survive_the_way_through_the_ring_buffer() {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 80)).into();
        for reason in [Refusal::Port, Refusal::Udp, Refusal::Scope] {
            assert_eq!(Refused::new(1, 2, address, reason).reason(), Some(reason));
        }
        assert_eq!(Refusal::from_code(0), None);
    }
}
