//! What the tests are written with.

pub mod account;
pub mod agent;
pub mod api_server;
pub mod binary;
pub mod certs;
pub mod large;
pub mod nginx;
pub mod node;
pub mod peers;
pub mod postgres;
pub mod proxy;
pub mod role;
pub mod tcp;
pub mod wait;
