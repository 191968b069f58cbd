//! Directories that come and go, by inotify(7).
//!
//! Not by the `notify` crate: it asks for every event there is, and on a node somebody reads
//! the statistics of all cgroups every few seconds.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::warn;

/// What happened, in the order in which it did.
#[derive(Debug)]
pub(super) enum Event {
    Made {
        parent: WatchDescriptor,
        name: OsString,
    },
    Removed {
        parent: WatchDescriptor,
        name: OsString,
    },
    /// The directory of this watch is gone.
    Gone(WatchDescriptor),
    /// There were too many.
    Lost,
}

#[derive(Debug)]
pub(super) struct Events {
    inotify: Result<Inotify, Errno>,
    warned: AtomicBool,
}

impl Events {
    pub(super) fn new() -> Self {
        Self::from(Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK))
    }

    /// As where another program has taken all that the system has.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self::from(Err(Errno::EMFILE))
    }

    fn from(inotify: Result<Inotify, Errno>) -> Self {
        Self {
            inotify,
            warned: AtomicBool::new(false),
        }
    }

    /// Asks for what is made in a directory, and removed from it. Doing it again changes
    /// nothing; with the directory the watch is gone.
    pub(super) fn watch(&self, directory: &Path) -> Result<WatchDescriptor, Errno> {
        let children = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE;
        let itself = AddWatchFlags::IN_ONLYDIR | AddWatchFlags::IN_DONT_FOLLOW;
        let inotify = self.inotify.as_ref().map_err(|error| *error);
        let watched = inotify.and_then(|inotify| inotify.add_watch(directory, children | itself));
        watched.inspect_err(|error| self.warn_of(*error))
    }

    /// All events up to now. Each is there when the call that caused it returns.
    pub(super) fn read(&self) -> Vec<Event> {
        let Ok(inotify) = &self.inotify else {
            return Vec::new();
        };
        let read = || inotify.read_events().ok();
        std::iter::from_fn(read).flatten().filter_map(event).collect()
    }

    /// To wait until there are any.
    pub(super) fn bell(&self) -> Bell {
        let inotify = self.inotify.as_ref().ok();
        let registered = inotify.and_then(|inotify| {
            register(inotify)
                .inspect_err(|error| warn!(%error, "events about cgroups cannot be waited for"))
                .ok()
        });
        Bell(registered)
    }

    fn warn_of(&self, error: Errno) {
        // Of a directory that vanished its parent's watch will tell.
        if error == Errno::ENOENT || self.warned.swap(true, Ordering::Relaxed) {
            return;
        }
        warn!(
            %error,
            "no events about cgroups, so new ones are looked for every second: raise fs.inotify.max_user_watches \
             and fs.inotify.max_user_instances of the node"
        );
    }
}

fn event(raw: InotifyEvent) -> Option<Event> {
    let is = |flag| raw.mask.contains(flag);
    if is(AddWatchFlags::IN_Q_OVERFLOW) || is(AddWatchFlags::IN_UNMOUNT) {
        return Some(Event::Lost);
    }
    if is(AddWatchFlags::IN_IGNORED) {
        return Some(Event::Gone(raw.wd));
    }
    let (parent, name) = (raw.wd, raw.name.filter(|_| is(AddWatchFlags::IN_ISDIR))?);
    Some(if is(AddWatchFlags::IN_CREATE) {
        Event::Made { parent, name }
    } else {
        Event::Removed { parent, name }
    })
}

/// Rings when there are events to read.
pub(super) struct Bell(Option<AsyncFd<OwnedFd>>);

impl Bell {
    /// Never, if there are no events on this system.
    pub(super) async fn rung(&self) {
        if let Some(bell) = &self.0
            && let Ok(mut ready) = bell.readable().await
        {
            ready.clear_ready();
        } else {
            std::future::pending::<()>().await;
        }
    }
}

fn register(inotify: &Inotify) -> io::Result<AsyncFd<OwnedFd>> {
    let descriptor = inotify.as_fd().try_clone_to_owned()?;
    // SAFETY: an `OwnedFd` is open as long as it lives, and always the same.
    #[expect(unsafe_code, reason = "`AsyncFd` cannot know that the descriptor stays open")]
    let registered = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
    registered.map_err(|error| error.into_parts().1)
}
