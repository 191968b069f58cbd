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
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let mut values = status.lines().filter_map(|line| line.strip_prefix(name));
    values.next().map(str::trim)
}

/// A set of capabilities, as bits.
fn set(status: &str, name: &str) -> u64 {
    field(status, name)
        .and_then(|mask| u64::from_str_radix(mask, 16).ok())
        .unwrap_or(0)
}

fn user(status: &str) -> &str {
    let ids = field(status, "Uid:").unwrap_or_default();
    ids.split_whitespace().nth(1).unwrap_or_default()
}

/// What an agent needs, which need not be root. `status` is the text of `/proc/self/status`.
pub(super) fn capabilities_check(status: &str) -> Check {
    const NAME: &str = "capabilities";
    let missing = |name: &str| {
        let has = |capability: u32| set(status, name) >> capability & 1 == 1;
        // It stands for the other two.
        let all = has(CAP_SYS_ADMIN);
        let needed = [("BPF", CAP_BPF), ("NET_ADMIN", CAP_NET_ADMIN)];
        let missing = needed
            .into_iter()
            .filter(|(_, capability)| !all && !has(*capability));
        missing.map(|(name, _)| name).collect::<Vec<_>>().join(" and ")
    };
    let (effective, permitted, bounding) = (missing("CapEff:"), missing("CapPrm:"), missing("CapBnd:"));
    if effective.is_empty() {
        return Check::ok(NAME, "BPF and NET_ADMIN are in effect");
    }
    if permitted.is_empty() {
        return Check::failed(
            NAME,
            format!("this program has {effective}, but not in effect"),
            "start it under its own name; if that does not help, please report this",
        );
    }
    if bounding.is_empty() {
        return Check::failed(
            NAME,
            format!(
                "this container may have {permitted}, but this program has not: it runs as user {}, and its file \
                 has no capabilities",
                user(status)
            ),
            "use the image as it was built (a copy of its file system may lose the attribute security.capability), \
             or let the container run as user 0",
        );
    }
    Check::failed(
        NAME,
        format!("this container may not have {bounding}"),
        "add the capabilities BPF and NET_ADMIN in its securityContext, as the chart does; nothing else is needed",
    )
}

pub(super) fn privileges_check(status: &str) -> Check {
    const NAME: &str = "privileges";
    let root = user(status) == "0";
    let has = |capability: u32| set(status, "CapEff:") >> capability & 1 == 1;
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

/// Where the limit comes from.
#[derive(Clone, Copy)]
pub(super) enum LimitOf {
    /// The shell's that started this.
    Shell,
    /// The container runtime's: pods have no field for it.
    Runtime,
}

pub(super) fn memlock_check(release: &str, limit: u64, of: LimitOf) -> Check {
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
        match of {
            LimitOf::Shell => "run `ulimit -l 65536` first",
            LimitOf::Runtime => {
                "raise it for the container runtime of this node (LimitMEMLOCK=infinity in the systemd unit of \
                 containerd, default_ulimits of CRI-O), or use Linux 5.11 or newer"
            }
        },
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
    fn capabilities_of_a_pod_are_followed_to_where_they_were_lost() {
        const BOTH: &str = "0000008000001000";
        let told = |effective: &str, permitted: &str, bounding: &str| {
            let status = format!(
                "Uid:\t65532\t65532\t65532\t65532\nCapPrm:\t{permitted}\nCapEff:\t{effective}\nCapBnd:\t{bounding}\n"
            );
            capabilities_check(&status).detail
        };
        assert_eq!(told(BOTH, BOTH, BOTH), "BPF and NET_ADMIN are in effect");
        assert_eq!(
            told("200000", "200000", "200000"),
            "BPF and NET_ADMIN are in effect"
        );
        assert_eq!(
            told("0", BOTH, BOTH),
            "this program has BPF and NET_ADMIN, but not in effect"
        );
        assert_eq!(
            told("0", "0", BOTH),
            "this container may have BPF and NET_ADMIN, but this program has not: it runs as user 65532, and its \
             file has no capabilities"
        );
        assert_eq!(told("1000", "1000", "1000"), "this container may not have BPF");
        assert_eq!(
            told("0", "0", "0"),
            "this container may not have BPF and NET_ADMIN"
        );
    }

    #[test]
    fn locked_memory_only_matters_on_old_kernels() {
        let check = |release, limit| memlock_check(release, limit, LimitOf::Shell).state;
        assert_eq!(check("5.10.0", 64 << 10), State::Warning);
        assert_eq!(check("5.10.0", u64::MAX), State::Ok);
        assert_eq!(check("6.1.0", 0), State::Ok);
    }
}
