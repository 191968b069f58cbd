//! Capabilities that the program may have but does not have yet; see capabilities(7).
//!
//! The image's program has file capabilities that are permitted only. With the effective bit the
//! kernel would refuse to execute it in pods that drop them, and most roles run in such pods.

use caps::CapSet;

/// Switches on everything that is permitted: in the calling thread and, from then on, in those
/// that it starts. So it comes before the first runtime.
///
/// Where nothing is permitted, or everything is on already (for root), nothing changes. What is
/// missing then shows where it is needed, with a better message than could be given here.
pub(super) fn raise() {
    if let Ok(permitted) = caps::read(None, CapSet::Permitted) {
        // Permitted ones can always be made effective.
        caps::set(None, CapSet::Effective, &permitted).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_permitted_becomes_effective() {
        // Of this thread only, and it ends with the test.
        let permitted = caps::read(None, CapSet::Permitted).unwrap();
        caps::clear(None, CapSet::Effective).unwrap();
        raise();
        assert_eq!(caps::read(None, CapSet::Effective).unwrap(), permitted);
        assert_eq!(caps::read(None, CapSet::Permitted).unwrap(), permitted);
    }
}
