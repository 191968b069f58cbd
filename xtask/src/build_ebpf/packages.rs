//! Debian packages, installed after saying which and why.

use std::process::Command;

use anyhow::{Result, bail};

use super::{output_of, say, succeed};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Install {
    Missing,
    Never,
}

/// Whether the system's package lists have all of them.
pub(crate) fn available(packages: &[&str]) -> bool {
    packages.iter().all(|package| {
        let policy = output_of("apt-cache", &["policy", package]).unwrap_or_default();
        policy.contains("Candidate: ") && !policy.contains("Candidate: (none)")
    })
}

pub(crate) fn install(packages: &[&str], purpose: &str, install: Install) -> Result<()> {
    let list = packages.join(" ");
    if install == Install::Never || output_of("apt-get", &["--version"]).is_none() {
        bail!("missing {purpose}: install the packages {list} (names of Debian 12)");
    }
    say(&format!("installing {purpose}: {list}"));
    if !available(packages) {
        succeed(&mut apt_get(&["update", "--quiet"]))?;
    }
    let arguments = ["install", "--yes", "--quiet", "--no-install-recommends"];
    succeed(apt_get(&arguments).args(packages))
}

/// As root, through sudo if need be; waits for other installations.
fn apt_get(arguments: &[&str]) -> Command {
    let mut command = if nix::unistd::geteuid().is_root() {
        Command::new("env")
    } else {
        let mut sudo = Command::new("sudo");
        sudo.arg("env");
        sudo
    };
    command
        .args([
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
            "-o",
            "DPkg::Lock::Timeout=300",
        ])
        .args(arguments);
    command
}
