//! The program under test.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Names the program; without it, the one beside this test is taken.
const VARIABLE: &str = "TRANSPARENT_PROXY";

/// Path of the program `transparent-proxy`.
pub fn path() -> PathBuf {
    let path = std::env::var_os(VARIABLE).map_or_else(beside_this_test, PathBuf::from);
    assert!(
        path.exists(),
        "{} does not exist: run `cargo build -p transparent-proxy` first, or set {VARIABLE}",
        path.display()
    );
    path
}

/// `target/debug/deps/suite-…` -> `target/debug/transparent-proxy`
fn beside_this_test() -> PathBuf {
    let test = std::env::current_exe().expect("the test knows its own path");
    let profile = test
        .ancestors()
        .nth(2)
        .expect("tests lie in deps/ of the profile's folder");
    profile.join("transparent-proxy")
}

/// The program, called by somebody without any privilege.
pub fn as_nobody<S: AsRef<OsStr>>(arguments: &[S]) -> Output {
    // Not everybody may enter the folders above the build.
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("transparent-proxy");
    fs::copy(path(), &copy).unwrap();
    let everybody = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder.path(), everybody).unwrap();
    Command::new(copy)
        .args(arguments)
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap()
}

/// With as many threads for connections on every machine, because each of them has memory of its own.
pub fn command() -> Command {
    let mut command = Command::new(path());
    command.env("TOKIO_WORKER_THREADS", "2");
    command
}

/// Where the logs of the proxies go; everything there is searched for secrets afterwards.
pub fn log_folder() -> PathBuf {
    let folder = std::env::var_os("TRANSPARENT_PROXY_TEST_LOGS")
        .map_or_else(|| beside_this_test().with_file_name("test-logs"), PathBuf::from);
    std::fs::create_dir_all(&folder).expect("a folder for logs");
    folder
}

/// The folder of this package, with the sources of clients and peers.
pub fn tests_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
