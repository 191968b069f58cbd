//! Directories that come and go, by inotify(7).
//!
//! Not by the `notify` crate: it asks for every event there is, and on a node somebody reads
//! the statistics of all cgroups every few seconds.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::warn;

#[derive(Debug)]
pub(super) struct Events {
    inotify: Option<Inotify>,
    /// Every directory that should be is watched.
    complete: AtomicBool,
}

impl Events {
    pub(super) fn new() -> Self {
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        let inotify = Inotify::init(flags)
            .map_err(|error| warn_of(&error.to_string()))
            .ok();
        Self {
            complete: AtomicBool::new(inotify.is_some()),
            inotify,
        }
    }

    /// As on a system that has none left.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self {
            inotify: None,
            complete: AtomicBool::new(false),
        }
    }

    /// Asks for what is made in a directory, and removed from it. Doing it again changes
    /// nothing; with the directory the watch is gone.
    pub(super) fn watch(&self, directory: &Path) -> bool {
        let Some(inotify) = &self.inotify else {
            return false;
        };
        let children = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE;
        let itself = AddWatchFlags::IN_ONLYDIR | AddWatchFlags::IN_DONT_FOLLOW;
        let watched = inotify.add_watch(directory, children | itself);
        // Those will be told of by the directory above.
        matches!(watched, Ok(_) | Err(Errno::ENOENT))
    }

    pub(super) fn are_complete(&self) -> bool {
        self.complete.load(Ordering::Relaxed)
    }

    pub(super) fn set_complete(&self, complete: bool) {
        if self.complete.swap(complete, Ordering::Relaxed) && !complete {
            warn_of("fs.inotify.max_user_watches is used up");
        }
    }

    pub(super) fn queue(&self) -> Queue<'_> {
        Queue(self.inotify.as_ref().and_then(|inotify| {
            register(inotify)
                .map_err(|error| warn_of(&error.to_string()))
                .ok()
                .map(|ready| (inotify, ready))
        }))
    }
}

/// Where events wait to be read.
pub(super) struct Queue<'a>(Option<(&'a Inotify, AsyncFd<OwnedFd>)>);

impl Queue<'_> {
    /// Waits until there are events, and takes all that are there. What they say does not
    /// matter, since the whole tree is read again.
    pub(super) async fn next(&mut self) {
        let Some((inotify, ready)) = &mut self.0 else {
            return std::future::pending().await;
        };
        let Ok(mut ready) = ready.readable().await else {
            return std::future::pending().await;
        };
        ready.clear_ready();
        while inotify.read_events().is_ok() {}
    }
}

fn register(inotify: &Inotify) -> io::Result<AsyncFd<OwnedFd>> {
    let descriptor = inotify.as_fd().try_clone_to_owned()?;
    // SAFETY: an `OwnedFd` is open as long as it lives, and always the same.
    #[expect(unsafe_code, reason = "`AsyncFd` cannot know that the descriptor stays open")]
    let registered = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
    registered.map_err(|error| error.into_parts().1)
}

fn warn_of(reason: &str) {
    warn!(
        reason,
        "no events about new cgroups; they are looked for every second instead"
    );
}
