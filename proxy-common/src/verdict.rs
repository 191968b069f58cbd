//! What happens to a connect attempt.

use crate::address::{Endpoint, Ip};

/// What the hook knows of the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Udp,
    /// ICMP, SCTP, raw sockets: never touched.
    Other,
}

impl Transport {
    /// From `type` and `protocol` of `socket(2)`.
    #[inline(always)]
    pub const fn of(socket_type: u32, protocol: u32) -> Self {
        const SOCK_STREAM: u32 = 1;
        const SOCK_DGRAM: u32 = 2;
        const IPPROTO_TCP: u32 = 6;
        const IPPROTO_UDP: u32 = 17;
        const IPPROTO_MPTCP: u32 = 262;
        if socket_type == SOCK_STREAM && (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP) {
            Self::Tcp
        } else if socket_type == SOCK_DGRAM && protocol == IPPROTO_UDP {
            Self::Udp
        } else {
            Self::Other
        }
    }
}

/// One call of `connect(2)`.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    pub address: Endpoint,
    pub transport: Transport,
}

/// Questions to the maps, asked only when the answer matters.
pub trait Tables {
    /// Is this one of our virtual IPs?
    fn is_virtual(&self, ip: &Ip) -> bool;
    /// The proxy's address for a virtual IP and port.
    fn target(&self, address: &Endpoint) -> Option<Endpoint>;
    /// Is the connecting socket one of the proxy's own?
    fn is_exempt(&self) -> bool;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Not for us; the attempt goes on untouched.
    Pass,
    /// At a virtual IP, but by the proxy itself; the attempt goes on untouched.
    Exempt,
    /// Go to the proxy instead.
    Redirect(Endpoint),
    /// `connect` fails with ECONNREFUSED. Passed on, the packets would leave the
    /// machine by the default route.
    Refuse(Refusal),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No destination serves this port of the virtual IP.
    Port,
    /// Destinations are TCP.
    Udp,
}

/// Decides about one attempt. The first question is the only one that foreign
/// connections cost.
#[inline(always)]
pub fn verdict(attempt: &Attempt, tables: &impl Tables) -> Verdict {
    if !tables.is_virtual(&attempt.address.ip) || matches!(attempt.transport, Transport::Other) {
        return Verdict::Pass;
    }
    if tables.is_exempt() {
        return Verdict::Exempt;
    }
    if matches!(attempt.transport, Transport::Udp) {
        return Verdict::Refuse(Refusal::Udp);
    }
    match tables.target(&attempt.address) {
        Some(target) => Verdict::Redirect(target),
        None => Verdict::Refuse(Refusal::Port),
    }
}

#[cfg(test)]
mod tests;
