//! Start, readiness, drain.

pub mod drain;
