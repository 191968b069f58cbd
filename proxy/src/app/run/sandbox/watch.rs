//! The process that outlives the proxy, to clear what the proxy cannot.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::SigSet;

use super::leftovers;

/// Role `__watch`: waits for the end of the proxy, then removes its sandbox.
///
/// # Assumptions
/// Stdin is a pipe whose other end only the proxy has.
pub fn watch(directory: &Path) -> io::Result<()> {
    // Not in the group of the proxy, which a terminal or `kill -9 -PGID` may end as a whole.
    // It fails for the leader of a group, which is alone already.
    let _ = nix::unistd::setsid();
    SigSet::all().thread_block()?;
    let mut nothing = Vec::new();
    io::stdin().read_to_end(&mut nothing)?;
    // Gone already after an orderly end. Else the lock is free as soon as the kernel has
    // closed the last file of the proxy.
    let Ok(folder) = File::open(directory) else {
        return Ok(());
    };
    let _lock = Flock::lock(folder, FlockArg::LockExclusive).map_err(|(_, error)| error)?;
    leftovers::remove(directory);
    Ok(())
}
