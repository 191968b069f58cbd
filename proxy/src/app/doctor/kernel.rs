//! What the kernel's version and the process's capabilities mean; pure, so that tests can
//! be every machine.

use super::Check;

/// `CAP_BPF`, and programs for getpeername on cgroups.
const MINIMUM: (u32, u32) = (5, 8);
/// `bpf_set_retval`: before it a refused connect is EPERM, not ECONNREFUSED.
const RECOMMENDED: (u32, u32) = (5, 18);
/// Memory of eBPF maps is no longer counted against `RLIMIT_MEMLOCK`.
const NO_MEMLOCK: (u32, u32) = (5, 11);
const ENOUGH_MEMLOCK: u64 = 64 << 20;

// Numbers of capabilities(7), from linux/capability.h.
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_BPF: u32 = 39;

/// `6.1.0-18-amd64` -> (6, 1)
pub(super) fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

pub(super) fn version_check(release: &str) -> Check {
    const NAME: &str = "kernel";
    match version(release) {
        None => Check::warning(
            NAME,
            format!("the version {release:?} is not understood"),
            "Linux 5.8 or newer is needed",
        ),
        Some(found) if found < MINIMUM => Check::failed(
            NAME,
            format!("Linux {release} is too old"),
            "Linux 5.8 or newer is needed, 5.18 is recommended",
        ),
        Some(found) if found < RECOMMENDED => Check::warning(
            NAME,
            format!("Linux {release} will do, but a refused connect says EPERM instead of ECONNREFUSED"),
            "Linux 5.18 or newer is recommended",
        ),
        Some(_) => Check::ok(NAME, format!("Linux {release}")),
    }
}

/// From the text of `/proc/self/status`.
pub(super) fn privileges_check(status: &str) -> Check {
    const NAME: &str = "privileges";
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    let root = field("Uid:").and_then(|uids| uids.split_whitespace().nth(1)) == Some("0");
    let effective = field("CapEff:")
        .and_then(|mask| u64::from_str_radix(mask, 16).ok())
        .unwrap_or(0);
    let has = |capability: u32| effective >> capability & 1 == 1;
    match (root, has(CAP_SYS_ADMIN), has(CAP_BPF), has(CAP_NET_ADMIN)) {
        (true, true, _, true) => Check::ok(NAME, "root"),
        (_, _, true, true) => Check::warning(
            NAME,
            "CAP_BPF and CAP_NET_ADMIN: enough without a CMD",
            "running a CMD takes root with CAP_SYS_ADMIN, as with sudo",
        ),
        _ => Check::failed(
            NAME,
            "neither root nor the capabilities CAP_BPF and CAP_NET_ADMIN",
            "use sudo; in a container, add the capabilities BPF, NET_ADMIN and, for a CMD, SYS_ADMIN",
        ),
    }
}

pub(super) fn memlock_check(release: &str, limit: u64) -> Check {
    const NAME: &str = "memory for eBPF maps";
    if version(release).is_some_and(|found| found >= NO_MEMLOCK) {
        return Check::ok(NAME, "not limited by RLIMIT_MEMLOCK on this kernel");
    }
    if limit >= ENOUGH_MEMLOCK {
        return Check::ok(
            NAME,
            format!("RLIMIT_MEMLOCK is {} MiB or more", ENOUGH_MEMLOCK >> 20),
        );
    }
    Check::warning(
        NAME,
        format!("RLIMIT_MEMLOCK is {} KiB", limit >> 10),
        "run `ulimit -l 65536` first",
    )
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn versions_are_read_from_releases_of_distributions() {
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version("5.15.90.1-microsoft-standard-WSL2"), Some((5, 15)));
        assert_eq!(version("6.18-rc1"), Some((6, 18)));
        assert_eq!(version("unknown"), None);
    }

    #[test]
    fn old_kernels_are_told_from_new_ones() {
        assert_eq!(version_check("4.19.0").state, State::Failed);
        assert_eq!(version_check("5.7.19").state, State::Failed);
        assert_eq!(version_check("5.8.0").state, State::Warning);
        assert_eq!(version_check("5.18.0").state, State::Ok);
        assert_eq!(version_check("?").state, State::Warning);
    }

    #[test]
    fn privileges_are_judged_by_capabilities() {
        let status =
            |uid: u32, mask: &str| format!("Name:\tx\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nCapEff:\t{mask}\n");
        assert_eq!(privileges_check(&status(0, "000001ffffffffff")).state, State::Ok);
        // Root of a container with the default capabilities of Docker.
        assert_eq!(
            privileges_check(&status(0, "00000000a80425fb")).state,
            State::Failed
        );
        // BPF and NET_ADMIN alone.
        assert_eq!(
            privileges_check(&status(65532, "0000008000001000")).state,
            State::Warning
        );
        assert_eq!(privileges_check(&status(1000, "0")).state, State::Failed);
    }

    #[test]
    fn locked_memory_only_matters_on_old_kernels() {
        assert_eq!(memlock_check("5.10.0", 64 << 10).state, State::Warning);
        assert_eq!(memlock_check("5.10.0", u64::MAX).state, State::Ok);
        assert_eq!(memlock_check("6.1.0", 0).state, State::Ok);
    }
}
