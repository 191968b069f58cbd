//! What the tests are written with.

pub mod certs;
pub mod binary;
pub mod node;
