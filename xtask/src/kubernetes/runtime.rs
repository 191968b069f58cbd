//! What runs containers on the nodes of test clusters, and what nodes call.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{cache, link};
use crate::peers::debian;
use crate::shell;

/// Unpacked privately: the packages start services.
const UNPACKED: &[(&str, &str)] = &[
    ("containerd", "usr/bin/containerd"),
    ("containerd", "usr/bin/containerd-shim-runc-v2"),
    ("containerd", "usr/bin/ctr"),
    ("runc", "usr/sbin/runc"),
];
/// Without services.
const INSTALLED: &[(&str, &str)] = &[
    ("conntrack", "conntrack"),
    ("iproute2", "ip"),
    ("iptables", "iptables"),
    ("openssl", "openssl"),
    ("socat", "socat"),
];
const PLUGINS: &str = "usr/lib/cni";

/// A folder with the programs, and the network plugins in `cni`.
pub(super) fn provide() -> Result<PathBuf> {
    for (package, program) in INSTALLED {
        if shell::find(program).is_none() {
            debian::install(package, program)?;
        }
    }
    let folder = cache().join("runtime");
    fs::create_dir_all(&folder).with_context(|| format!("{} can be made", folder.display()))?;
    for (package, program) in UNPACKED {
        let name = Path::new(program).file_name().context("a program has a name")?;
        let found = match shell::find(&name.to_string_lossy()) {
            Some(installed) => installed,
            None => debian::unpack(package, program)?,
        };
        link(&folder.join(name), &found)?;
    }
    link(&folder.join("cni"), &plugins()?)?;
    Ok(folder)
}

fn plugins() -> Result<PathBuf> {
    let installed = Path::new("/").join(PLUGINS);
    if installed.join("bridge").exists() {
        return Ok(installed);
    }
    debian::unpack("containernetworking-plugins", "usr/lib/cni/bridge")?;
    Ok(debian::root("containernetworking-plugins").join(PLUGINS))
}
