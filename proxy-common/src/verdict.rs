//! What happens to a connect attempt.

use crate::address::{Endpoint, Ip};
use crate::scope::{NamespaceNumber, Target};

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
    /// Where a virtual IP and port lead to.
    fn target(&self, address: &Endpoint) -> Option<Target>;
    /// Is the connecting socket one of the proxy's own?
    fn is_exempt(&self) -> bool;
    /// The namespace of the calling task, if user space has said which it is.
    fn caller(&self) -> Option<NamespaceNumber>;
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

/// The numbers are what [`Refused`](crate::Refused) carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Refusal {
    /// No destination serves this port of the virtual IP.
    Port = 1,
    /// Destinations are TCP.
    Udp = 2,
    /// The destination is for another namespace than the caller's.
    Scope = 3,
}

impl Refusal {
    pub const fn from_code(code: u32) -> Option<Self> {
        match code {
            1 => Some(Self::Port),
            2 => Some(Self::Udp),
            3 => Some(Self::Scope),
            _ => None,
        }
    }

    #[inline(always)]
    pub const fn code(self) -> u32 {
        self as u32
    }
}

/// Decides about one attempt. The first question is the only one that foreign
/// connections cost; who calls is asked only where not everybody may.
///
/// A caller that nobody knows is redirected: user space may not have seen its cgroup yet,
/// and looks again when it accepts the connection.
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
    let Some(target) = tables.target(&attempt.address) else {
        return Verdict::Refuse(Refusal::Port);
    };
    if target.is_for_anybody() || tables.caller().is_none_or(|caller| target.is_for(caller)) {
        Verdict::Redirect(target.proxy)
    } else {
        Verdict::Refuse(Refusal::Scope)
    }
}

#[cfg(test)]
mod tests;
