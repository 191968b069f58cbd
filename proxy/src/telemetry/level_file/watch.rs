//! Follows the file: file system events, and a look every minute for what they miss.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::warn;

use super::{Error, FILE, format};
use crate::telemetry::logging::{Level, LogControl};

/// A shell empties a file before it writes.
const QUIET: Duration = Duration::from_millis(100);
const LOOK_AGAIN: Duration = Duration::from_mins(1);
/// When the system has no watches left.
const LOOK_AGAIN_WITHOUT_EVENTS: Duration = Duration::from_secs(2);

/// Gives the process the level of the file whenever that changes; to the end of the process.
/// What cannot be read is told once and changes nothing.
pub async fn follow(folder: PathBuf, start: Level, log: LogControl) {
    let path = folder.join(FILE);
    let mut follower = Follower {
        content: Ok(format::text(start)),
        level: start,
        log,
    };
    let changed = Arc::new(Notify::new());
    let watcher = watcher(&folder, Arc::clone(&changed))
        .inspect_err(|error| warn!(%error, "no file system events; the log level is read every 2 s instead"));
    let pause = if watcher.is_ok() {
        LOOK_AGAIN
    } else {
        LOOK_AGAIN_WITHOUT_EVENTS
    };
    loop {
        // The first look is for what came before the watch.
        follower.take(read(&path));
        let _ = timeout(pause, changed.notified()).await;
        while timeout(QUIET, changed.notified()).await.is_ok() {}
    }
}

struct Follower {
    /// Or why there was none.
    content: Result<String, String>,
    level: Level,
    log: LogControl,
}

impl Follower {
    fn take(&mut self, content: Result<String, Error>) {
        let content = content.map_err(|error| told(&error));
        if content == self.content {
            return;
        }
        let level = content
            .clone()
            .and_then(|text| format::level(&text).map_err(|error| told(&error)));
        self.content = content;
        let changed = level.and_then(|level| self.set(level));
        if let Err(error) = changed {
            let level = self.level.as_str();
            warn!(error, file = FILE, "the log level stays {level}");
        }
    }

    fn set(&mut self, level: Level) -> Result<(), String> {
        if level == self.level {
            return Ok(());
        }
        self.log.set(level).map_err(|error| told(&error))?;
        // At this level, lest the change itself stays unseen.
        warn!(
            before = self.level.as_str(),
            now = level.as_str(),
            "the log level was changed"
        );
        self.level = level;
        Ok(())
    }
}

/// With what caused it.
fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn read(path: &Path) -> Result<String, Error> {
    let failed = |source| Error::Io {
        path: path.to_owned(),
        action: "read",
        source,
    };
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    file.take(format::LONGEST + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > format::LONGEST {
        return Err(Error::TooLong);
    }
    Ok(text)
}

/// Of the folder, so that a file that is replaced is seen, too.
fn watcher(folder: &Path, changed: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // An error means that events were lost.
        if event.map_or(true, |event| is_change(event.kind)) {
            changed.notify_one();
        }
    })?;
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// Reading is none; otherwise the own look would be the reason for the next.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::logging;

    #[test]
    fn content_that_cannot_be_read_keeps_the_level() {
        let (_layer, log) = logging::detached("info");
        let mut follower = Follower {
            content: Ok(format::text(Level::Info)),
            level: Level::Info,
            log: log.clone(),
        };
        follower.take(Ok(format::text(Level::Debug)));
        let broken = ["", "log:\n  level: loud", "{", "\u{0}"].map(|text| Ok(text.to_owned()));
        for content in broken.into_iter().chain([Err(Error::TooLong)]) {
            follower.take(content);
            assert!(log.level().ends_with(",debug"), "{}", log.level());
        }
        follower.take(Ok(format::text(Level::Warn)));
        assert!(log.level().ends_with(",warn"), "{}", log.level());
    }

    #[test]
    fn a_file_without_end_is_not_read_to_its_end() {
        assert!(matches!(read(Path::new("/dev/zero")), Err(Error::TooLong)));
    }
}
