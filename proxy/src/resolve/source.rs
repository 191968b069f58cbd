//! Where destinations come from.

pub mod files;
pub mod secrets;

mod document;
mod json;
