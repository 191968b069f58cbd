//! The proxy's own outbound sockets are not redirected.

use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use aya::maps::{MapData, MapError, SkStorage};

/// Exempts sockets by file descriptor; nobody without the map can do that.
#[derive(Debug, Clone)]
pub struct Exempt(Arc<Mutex<SkStorage<MapData, u32>>>);

impl Exempt {
    pub(super) fn new(map: SkStorage<MapData, u32>) -> Self {
        Self(Arc::new(Mutex::new(map)))
    }

    /// To be called before the socket connects; lasts as long as the socket.
    pub fn socket(&self, socket: impl AsFd) -> io::Result<()> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.insert(&socket.as_fd(), 1, 0).map_err(io_error)
    }
}

fn io_error(error: MapError) -> io::Error {
    match error {
        MapError::SyscallError(error) => error.io_error,
        other => io::Error::other(other),
    }
}
