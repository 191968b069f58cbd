//! Start, readiness, drain.

pub mod drain;
pub mod readiness;
pub mod supervisor;
pub mod workers;
