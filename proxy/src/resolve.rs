//! Step 3 of the data path: which destination is meant, and how it is configured.

pub mod destination;
pub mod keystore;
pub mod properties;
pub mod source;
