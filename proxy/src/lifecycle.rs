//! Start, readiness, drain.

pub mod drain;
pub mod readiness;
pub mod workers;
