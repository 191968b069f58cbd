//! What the tests are made of.

pub(crate) mod binary;
