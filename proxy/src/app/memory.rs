//! Credentials are in the memory of this process, so nothing may copy that.

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
}
