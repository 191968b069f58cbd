//! What the tests are written with.

pub mod binary;
pub mod node;
