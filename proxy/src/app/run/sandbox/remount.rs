//! Keeps CMD's files in their places when somebody replaces those of the machine.
//!
//! Programs replace `/etc/hosts` by renaming a new file over it, and the kernel then takes
//! away what is mounted on the old one, in all mount namespaces: see "unlink, rename and
//! rmdir of mount points" in `mount_namespaces(7)`. CMD would lose the names of its
//! destinations. So a thread of the proxy notices the change, and mounts them again.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use tracing::{info, warn};

use super::Bind;

/// Sees changes from now on; what to do about them comes with [`Changes::remount`].
#[derive(Debug)]
pub(super) struct Changes {
    watcher: RecommendedWatcher,
    signs: Receiver<()>,
    binds: Vec<Bind>,
}

/// Mounts again until it is dropped.
#[derive(Debug)]
#[must_use]
pub(super) struct Remounting {
    // Dropping it closes the channel, and with it the thread ends.
    _watcher: RecommendedWatcher,
}

impl Changes {
    pub(super) fn watch(binds: Vec<Bind>) -> notify::Result<Self> {
        let (sender, signs) = channel();
        let mut watcher = notify::recommended_watcher(move |event| tell(&sender, event))?;
        for folder in binds.iter().filter_map(|bind| bind.target.parent()) {
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
        }
        Ok(Self {
            watcher,
            signs,
            binds,
        })
    }

    /// In the mount namespace of that process, which may still be on its way into it.
    pub(super) fn remount(self, process: u32) -> io::Result<Remounting> {
        let Self {
            watcher,
            signs,
            binds,
        } = self;
        thread::Builder::new()
            .name("remount".to_owned())
            .spawn(move || follow(&signs, &binds, process))?;
        Ok(Remounting { _watcher: watcher })
    }
}

fn tell(signs: &Sender<()>, event: notify::Result<Event>) {
    // After an error (events were lost) it is worth a look too.
    if !event.is_ok_and(|event| event.kind.is_access()) {
        // The thread has ended together with CMD.
        let _ = signs.send(());
    }
}

fn follow(signs: &Receiver<()>, binds: &[Bind], process: u32) {
    let mut inside = false;
    while signs.recv().is_ok() {
        // One look is enough for all that happened until now.
        while signs.try_recv().is_ok() {}
        let looked = if inside { Ok(true) } else { enter(process) };
        match looked {
            Ok(true) => {
                inside = true;
                binds.iter().for_each(restore);
            }
            // CMD is not there yet, and will do the mounts itself.
            Ok(false) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                warn!(%error, "CMD may have lost the names of its destinations");
                return;
            }
        }
    }
}

/// Takes this thread, alone, into the mount namespace of CMD; `false` while CMD has none.
fn enter(process: u32) -> io::Result<bool> {
    let theirs = File::open(format!("/proc/{process}/ns/mnt"))?;
    let ours = fs::metadata("/proc/self/ns/mnt")?;
    if theirs.metadata()?.ino() == ours.ino() {
        return Ok(false);
    }
    // Threads that share root and working directory may not change the namespace, see setns(2).
    unshare(CloneFlags::CLONE_FS)?;
    setns(theirs, CloneFlags::CLONE_NEWNS)?;
    Ok(true)
}

fn restore(bind: &Bind) {
    let Bind { source, target } = bind;
    // Between the removal of a file and its return there is nothing to lie on.
    if is_same(source, target) || !target.exists() {
        return;
    }
    let nothing: Option<&str> = None;
    match mount(Some(source), target, nothing, MsFlags::MS_BIND, nothing) {
        Ok(()) => info!(file = %target.display(), "replaced on this machine; CMD keeps its own"),
        Err(error) => warn!(%error, file = %target.display(), "CMD sees the one of the machine"),
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path| {
        fs::metadata(path)
            .map(|file: fs::Metadata| (file.dev(), file.ino()))
            .ok()
    };
    identity(one).is_some_and(|one| identity(other) == Some(one))
}
