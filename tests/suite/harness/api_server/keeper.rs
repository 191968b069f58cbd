//! Ends servers and removes their folder when the tests end, however they end.
//!
//! What a test shares with others lives in a `static`, which nobody drops; and a killed test
//! drops nothing. So a shell waits for the end of its standard input, which is the end of the
//! test process. The parent-death signal of prctl(2) would be no replacement: it comes at the
//! end of the *thread* that started the child, and every test is one.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// Waits for the end of its input; then ends its group, in which it is itself, from outside.
const WAIT_AND_CLEAR: &str = "cat > /dev/null\n\
    setsid sh -c 'kill -s KILL -- -\"$1\"; rm -rf -- \"$2\" || { sleep 1; rm -rf -- \"$2\"; }' clear $$ \"$1\" &\n\
    wait";

pub struct Keeper {
    shell: Child,
    folder: TempDir,
}

impl Keeper {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("transparent-proxy-api-server-")
            .tempdir()
            .expect("a folder");
        let shell = Command::new("sh")
            .args(["-c", WAIT_AND_CLEAR, "keeper"])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("sh starts");
        Self { shell, folder }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a program that ends with this keeper.
    pub fn start(&self, command: &mut Command) -> Child {
        let group = i32::try_from(self.shell.id()).expect("a pid fits");
        command.process_group(group).spawn().expect("the program starts")
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        self.shell.wait().ok();
    }
}
