//! What the tests are written with.

pub mod certs;
pub mod node;
