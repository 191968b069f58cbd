//! What the eBPF programs and the proxy process agree on.
//!
//! The keys and values of the maps ([`address`], [`scope`], [`flow`], [`counter`]), the
//! reports of refusals ([`refused`]) and the decision about a connect attempt ([`verdict()`]), which is pure so that it can be
//! tested where no kernel is needed.
#![no_std]
#![expect(
    clippy::inline_always,
    reason = "calls between BPF functions take five registers and return one; inlined code has no such limits"
)]

pub mod address;
pub mod counter;
pub mod flow;
pub mod refused;
pub mod scope;
pub mod verdict;

pub use address::{Endpoint, Ip};
pub use counter::Counter;
pub use flow::{Flow, Origin, Wanted};
pub use refused::Refused;
pub use scope::{NamespaceNumber, Target};
pub use verdict::{Attempt, Refusal, Tables, Transport, Verdict, verdict};

#[cfg(feature = "user")]
mod user {
    use super::{Endpoint, Flow, Ip, NamespaceNumber, Origin, Refused, Target, Wanted};

    /// The kernel reads and writes these types as plain bytes.
    macro_rules! pod {
        ($($name:ty),+) => {$(
            // SAFETY: `repr(C)`, `Copy`, made of integers alone, padding spelled out
            // (see the size tests): every byte is initialised, every bit pattern valid.
            #[expect(unsafe_code, reason = "`aya::Pod` is a promise about the layout")]
            unsafe impl aya::Pod for $name {}
        )+};
    }

    pod!(
        Ip,
        Endpoint,
        Flow,
        NamespaceNumber,
        Origin,
        Refused,
        Target,
        Wanted
    );
}
