//! The memory of this process: nothing may copy it, as credentials are there, and it has an end.

use std::path::{Path, PathBuf};

use nix::sys::prctl;

/// No core file is written of this process, wherever `core_pattern` leads, and only
/// who may trace any process can attach to it; see `PR_SET_DUMPABLE` in
/// `PR_SET_DUMPABLE(2const)`.
///
/// A limit of the size would do less: kernels do not apply it to handlers of core
/// files that are programs, see core(5). And CMD would inherit it, while this ends with
/// the `execve(2)` of CMD, whose core files are its own business.
pub(super) fn keep_to_this_process() -> nix::Result<()> {
    prctl::set_dumpable(false)
}

/// How much memory this process may use, by the tightest of the control groups that it sees.
pub(super) fn limit() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    tightest(Path::new("/sys/fs/cgroup"), &groups)
}

/// Of version 2, whose limit of each group is in `memory.max`, or version 1, see cgroups(7). `groups` is what
/// `/proc/PID/cgroup` says.
fn tightest(root: &Path, groups: &str) -> Option<u64> {
    let of_line = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let path = path.trim_start_matches('/');
        if controllers.is_empty() {
            lowest(root, path, "memory.max")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            lowest(&root.join("memory"), path, "memory.limit_in_bytes")
        } else {
            None
        }
    };
    groups.lines().filter_map(of_line).min()
}

/// A limit is also one for all groups below. What cannot be read limits nothing: "max", or a group that is outside
/// of what is mounted.
fn lowest(root: &Path, path: &str, file: &str) -> Option<u64> {
    let folders = Path::new(path).ancestors().map(|folder| root.join(folder));
    let limit = |folder: PathBuf| -> Option<u64> {
        let text = std::fs::read_to_string(folder.join(file)).ok()?;
        text.trim().parse().ok()
    };
    folders.filter_map(limit).min()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use nix::sys::prctl;
    use nix::sys::resource::{Resource, getrlimit};

    use super::*;

    #[test]
    fn the_process_is_not_dumped_and_its_children_are_as_before() {
        let limit = getrlimit(Resource::RLIMIT_CORE).unwrap();
        keep_to_this_process().unwrap();
        assert!(!prctl::get_dumpable().unwrap());
        assert_eq!(getrlimit(Resource::RLIMIT_CORE).unwrap(), limit);
        // Starting oneself again works as ever.
        let child = Command::new("/proc/self/exe").arg("--list").output().unwrap();
        assert_eq!((child.status.code(), child.status.signal()), (Some(0), None));
    }

    #[test]
    fn the_tightest_limit_on_the_way_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let tightest = |groups| super::tightest(root.path(), groups);
        assert_eq!(tightest("0::/"), None);
        write("memory.max", "max\n");
        write("pods/memory.max", "900\n");
        write("pods/mine/memory.max", "1000\n");
        assert_eq!(tightest("0::/"), None);
        assert_eq!(tightest("0::/pods/mine\n"), Some(900));
        write("memory/mine/memory.limit_in_bytes", "700\n");
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(tightest("4:cpu:/mine\n3:memory:/mine\n0::/pods"), Some(700));
    }
}
