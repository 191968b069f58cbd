//! Where destinations come from.

pub mod files;
