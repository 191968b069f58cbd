//! An agent as a process, with a real API server: what pods reach, who is refused, what lasts.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;

use serde_json::json;

use crate::harness::agent::{BANK, Node, SHOP, STRANGER, exchange};
use crate::harness::api_server::ApiServer;
use crate::harness::{node, wait};

mod fallback;
mod hooked;
