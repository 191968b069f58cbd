//! Can eBPF programs be loaded here? If not: why, in one sentence.

use std::fs;

use crate::shell;

/// `CAP_NET_ADMIN`, see capabilities(7).
const NET_ADMIN: u64 = 1 << 12;
/// `CAP_SYS_ADMIN`: needed for namespaces, and includes what `CAP_BPF` gives.
const SYS_ADMIN: u64 = 1 << 21;
/// The first release whose cgroup programs can do what ours do.
const OLDEST_KERNEL: (u32, u32) = (5, 8);

/// The first reason why eBPF tests cannot run here, if there is one.
pub(crate) fn unfit() -> Option<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    unfit_by(
        &release,
        &mounts,
        &status,
        nix::unistd::geteuid().is_root(),
        shell::can_be_root(),
    )
}

fn unfit_by(release: &str, mounts: &str, status: &str, root: bool, sudo: bool) -> Option<String> {
    if kernel(release).is_some_and(|version| version < OLDEST_KERNEL) {
        let (major, minor) = OLDEST_KERNEL;
        return Some(format!(
            "this kernel is {}, the eBPF programs need {major}.{minor}",
            release.trim()
        ));
    }
    if !mounts
        .lines()
        .any(|line| line.split(' ').nth(2) == Some("cgroup2"))
    {
        return Some(
            "no cgroup v2 tree is mounted: mount -t cgroup2 none /sys/fs/cgroup (or a folder of its own)"
                .into(),
        );
    }
    if !root {
        return (!sudo).then(|| "you are not root and there is no sudo".into());
    }
    let missing = (NET_ADMIN | SYS_ADMIN) & !capabilities(status)?;
    (missing != 0)
        .then(|| "root lacks CAP_NET_ADMIN or CAP_SYS_ADMIN here (an unprivileged container?)".into())
}

fn kernel(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn capabilities(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str =
        "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
    const FULL: &str = "Name:\txtask\nCapEff:\t000001ffffffffff\n";

    #[test]
    fn root_on_a_hybrid_machine_is_fit() {
        assert_eq!(unfit_by("6.1.0-18-amd64\n", HYBRID, FULL, true, false), None);
    }

    #[test]
    fn an_old_kernel_is_named() {
        let reason = unfit_by("5.4.0-1-amd64\n", HYBRID, FULL, true, false);
        assert_eq!(
            reason.as_deref(),
            Some("this kernel is 5.4.0-1-amd64, the eBPF programs need 5.8")
        );
    }

    #[test]
    fn a_machine_without_cgroup_v2_is_told_how_to_mount_it() {
        let reason = unfit_by("6.1.0", "proc /proc proc rw 0 0\n", FULL, true, false).expect("unfit");
        assert!(reason.contains("mount -t cgroup2"), "{reason}");
    }

    #[test]
    fn a_container_without_capabilities_is_unfit() {
        let status = "CapEff:\t00000000a80425fb\n";
        assert!(unfit_by("6.1.0", HYBRID, status, true, false).is_some());
    }

    #[test]
    fn an_ordinary_user_needs_sudo() {
        assert!(unfit_by("6.1.0", HYBRID, "CapEff:\t0\n", false, false).is_some());
        assert_eq!(unfit_by("6.1.0", HYBRID, "CapEff:\t0\n", false, true), None);
    }
}
