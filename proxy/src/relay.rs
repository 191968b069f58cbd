//! Step 6 of the data path: bytes both ways.

pub mod tcp;
