//! The six steps on one screen: accept, original destination, resolve, credentials, connect, relay.

pub mod http;
pub mod stream;
