//! The plane over real sockets: raw bytes on both sides, hyper in between.

mod bodies;
mod continues;
mod failures;
pub(super) mod harness;
mod malformed;
mod pooling;
mod relaying;
mod resolving;
mod sharing;
mod upgrades;
mod versions;
