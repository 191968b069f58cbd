//! What can go wrong, and what the application is told about it.

pub mod catalogue;
pub mod render;
