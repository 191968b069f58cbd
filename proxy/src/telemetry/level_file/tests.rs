use std::fs;
use std::time::Duration;

use super::*;
use crate::telemetry::logging::{self, LogControl};

/// A folder with a file that is followed.
struct Followed {
    folder: tempfile::TempDir,
    log: LogControl,
    _layer: Box<dyn std::any::Any>,
}

impl Followed {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        place(folder.path(), Level::Info, Path::new("/bin/true")).unwrap();
        let (layer, log) = logging::detached("info");
        tokio::spawn(follow(folder.path().to_owned(), Level::Info, log.clone()));
        Self {
            folder,
            log,
            _layer: Box::new(layer),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(FILE)
    }

    async fn until_level_is(&self, level: &str) {
        let end = format!(",{level}");
        let in_time = tokio::time::timeout(Duration::from_secs(20), async {
            while !self.log.level().ends_with(&end) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        in_time
            .await
            .unwrap_or_else(|_late| panic!("{level} was waited for, it is {}", self.log.level()));
    }
}

#[tokio::test]
async fn the_level_follows_the_file_however_it_is_written() {
    let followed = Followed::start();
    write(followed.folder.path(), Level::Debug).unwrap();
    followed.until_level_is("debug").await;
    fs::write(followed.path(), "log: {level: WARN}").unwrap();
    followed.until_level_is("warn").await;
    fs::remove_file(followed.path()).unwrap();
    fs::write(followed.path(), "log:\n  level: trace\n").unwrap();
    followed.until_level_is("trace").await;
}

#[test]
fn the_program_is_known_by_the_name_of_the_link() {
    let folder = |name: &str| called_as(OsStr::new(name));
    assert_eq!(
        folder("/etc/logging/change-log-level"),
        Some("/etc/logging".into())
    );
    assert_eq!(folder("./change-log-level"), Some(".".into()));
    assert_eq!(
        folder("change-log-level"),
        Some("/etc/logging".into()),
        "found in PATH"
    );
    assert_eq!(folder("/usr/bin/transparent-proxy"), None);
    assert_eq!(folder("/etc/change-log-level/"), Some("/etc".into()));
    assert_eq!(folder(""), None);
}

#[test]
fn what_an_earlier_start_left_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(FILE), "log:\n  level: trace\n").unwrap();
    symlink("/old", folder.path().join(COMMAND)).unwrap();
    place(folder.path(), Level::Info, Path::new("/new")).unwrap();
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(
        fs::read_link(folder.path().join(COMMAND)).unwrap(),
        Path::new("/new")
    );
    assert_eq!(
        fs::read_to_string(folder.path().join(FILE)).unwrap(),
        "log:\n  level: info\n"
    );
}
