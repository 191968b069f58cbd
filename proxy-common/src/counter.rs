//! What the eBPF programs count, one slot per CPU each.

/// Index into the map `COUNTERS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Counter {
    /// Connect attempts that reached the hook, ours or not.
    Seen,
    Redirected,
    /// Attempts of exempt sockets at a virtual IP.
    Exempt,
    /// Refused: a port of a virtual IP that no destination serves.
    RefusedPort,
    /// Refused: UDP to a virtual IP.
    RefusedUdp,
    /// Refused: a destination for another namespace.
    RefusedScope,
    /// Refused: the kernel had no memory to remember the connection.
    RefusedMemory,
    /// A refusal could not be reported (ring buffer full); it was a refusal all the same.
    ReportLost,
    /// The origin of a connection was handed to the accepted socket.
    OriginRecorded,
    /// The origin of a connection could not be kept (map full, no memory).
    OriginLost,
}

impl Counter {
    pub const COUNT: usize = 10;

    /// Of all counters: what is about an IPv6 address is counted apart.
    pub const SLOTS: usize = 2 * Self::COUNT;

    pub const fn index(self) -> u32 {
        self as u32
    }

    /// A mapped address is IPv4.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "there are few counters")]
    pub const fn slot(self, is_v4: bool) -> u32 {
        if is_v4 {
            self.index()
        } else {
            self.index() + Self::COUNT as u32
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_a_slot() {
        assert_eq!(Counter::OriginLost.index() as usize, Counter::COUNT - 1);
        assert_eq!(Counter::OriginLost.slot(false) as usize, Counter::SLOTS - 1);
    }
}
