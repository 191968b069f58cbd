//! Where things are.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The repository: the folder above this package, as `cargo run` names it now
/// (clones may share a target folder), else as it was when this was built.
pub(crate) fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        Path::new(&package)
            .parent()
            .expect("xtask lies in the workspace")
            .to_owned()
    })
}

pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// What is worth keeping between clones: downloaded and unpacked peers.
///
/// Root's home is closed to the unprivileged users that some servers insist
/// on (`postgres` refuses to run as root), so root keeps its cache elsewhere.
pub(crate) fn cache() -> PathBuf {
    let base = match (env::var_os("XDG_CACHE_HOME"), env::var_os("HOME")) {
        (Some(dir), _) if !dir.is_empty() => PathBuf::from(dir),
        _ if nix::unistd::geteuid().is_root() => PathBuf::from("/var/cache"),
        (_, Some(home)) => PathBuf::from(home).join(".cache"),
        (_, None) => env::temp_dir(),
    };
    base.join("transparent-proxy")
}

pub(crate) fn binary(release: bool) -> PathBuf {
    target()
        .join(if release { "release" } else { "debug" })
        .join("transparent-proxy")
}

pub(crate) fn in_ci() -> bool {
    env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}
