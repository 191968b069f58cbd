//! The resolver of the system, with a bound on the threads that it may occupy.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::Semaphore;

/// Lookups at a time. They block threads of the runtime's pool (512 by default) as long as
/// the name servers take, also when the caller has given up.
const CONCURRENT_LOOKUPS: usize = 64;

#[derive(Debug)]
pub(super) struct Resolver {
    permits: Arc<Semaphore>,
}

impl Default for Resolver {
    fn default() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(CONCURRENT_LOOKUPS)),
        }
    }
}

impl Resolver {
    /// All addresses of `host`, in the order of the system.
    pub(super) async fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Some(ip) = super::literal(host) {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        let host = host.to_owned();
        // A task of its own keeps the permit until the thread is free again.
        let lookup = tokio::spawn(async move {
            let addresses = tokio::net::lookup_host((host, port))
                .await
                .map(Iterator::collect::<Vec<_>>);
            drop(permit);
            addresses
        });
        let addresses = lookup.await.map_err(io::Error::other)??;
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        Ok(addresses)
    }
}
