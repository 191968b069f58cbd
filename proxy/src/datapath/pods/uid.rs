//! The names that the kubelet gives to the cgroups of pods.

use std::borrow::Borrow;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Component, Path};
use std::sync::Arc;

/// The UID of a pod: its `metadata.uid`, or for a static pod, which the API server shows as
/// a mirror pod with a UID of its own, the annotation `kubernetes.io/config.hash`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodUid(Arc<str>);

impl PodUid {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for PodUid {
    fn from(uid: &str) -> Self {
        Self(uid.into())
    }
}

impl Borrow<str> for PodUid {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PodUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The pod that a cgroup belongs to, by its path. Where a pod runs a Kubernetes of its own,
/// the outer pod counts: the cluster knows no other.
pub fn pod_uid_of(cgroup: &Path) -> Option<PodUid> {
    cgroup.components().find_map(|component| match component {
        Component::Normal(name) => uid_of_name(name),
        _ => None,
    })
}

/// From `pod<uid>`, or `<parents>-pod<uid with underscores>.slice`: in the names of slices a
/// dash stands for a slash, see systemd.slice(5).
pub(super) fn uid_of_name(name: &OsStr) -> Option<PodUid> {
    let name = name.to_str()?;
    let Some(slice) = name.strip_suffix(".slice") else {
        return uid(name.strip_prefix("pod")?);
    };
    let (_parents, last) = slice.rsplit_once('-')?;
    uid(&last.strip_prefix("pod")?.replace('_', "-"))
}

/// The API server makes UUIDs, the kubelet MD5 sums for static pods. With anything else
/// other names would pass for pods' as well.
fn uid(text: &str) -> Option<PodUid> {
    const UUID_GROUPS: [usize; 5] = [8, 4, 4, 4, 12];
    let groups = || text.split('-');
    let is_hexadecimal = groups().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let is_uuid = groups().map(str::len).eq(UUID_GROUPS);
    (is_hexadecimal && (is_uuid || text.len() == 32 && groups().count() == 1)).then(|| text.into())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    const UID: &str = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";

    #[test]
    fn both_cgroup_drivers_are_understood() {
        for path in [
            "kubepods/pod0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9",
            "kubepods/burstable/pod0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9/4fe2/nested",
            "kubelet/kubepods/besteffort/pod0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9/4fe2",
            "/sys/fs/cgroup/kubepods.slice/kubepods-pod0a1b2c3d_4e5f_6071_8293_a4b5c6d7e8f9.slice",
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0a1b2c3d_4e5f_6071_8293_a4b5c6d7e8f9.slice/cri-containerd-4fe2.scope",
            "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod0a1b2c3d_4e5f_6071_8293_a4b5c6d7e8f9.slice/crio-4fe2.scope/init.scope",
        ] {
            assert_eq!(pod_uid_of(Path::new(path)), Some(UID.into()), "{path}");
        }
    }

    #[test]
    fn static_pods_have_a_hash_for_a_uid() {
        let hash = "7d1f0b6f8e2c4a5b9c3d2e1f0a9b8c7d";
        for path in [
            format!("kubepods/burstable/pod{hash}/x"),
            format!("kubepods.slice/kubepods-burstable-pod{hash}.slice"),
        ] {
            assert_eq!(pod_uid_of(Path::new(&path)), Some(hash.into()), "{path}");
        }
    }

    #[test]
    fn a_pod_in_a_pod_counts_as_the_outer_one() {
        let inner = "ffffffff-ffff-ffff-ffff-ffffffffffff";
        let path = format!("kubepods/pod{UID}/4fe2/docker/9a/kubelet/kubepods/pod{inner}/1");
        assert_eq!(pod_uid_of(Path::new(&path)), Some(UID.into()));
    }

    #[test]
    fn other_names_are_nobodys() {
        for path in [
            "",
            "/",
            "..",
            "kubepods",
            "kubepods/burstable",
            "kubepods.slice/kubepods-burstable.slice",
            "system.slice/podman.service",
            "pod",
            "-pod.slice",
            "podman/0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9",
            "machine.slice/machine-libpod_pod_7d1f0b6f8e2c4a5b9c3d2e1f0a9b8c7d.slice",
            "pod0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8fg",
            "pod0a1b2c3d4e5f-6071-8293-a4b5-c6d7e8f9",
            "pod0a1b2c3d_4e5f_6071_8293_a4b5c6d7e8f9",
        ] {
            assert_eq!(pod_uid_of(Path::new(path)), None, "{path}");
        }
    }

    fn any_uid() -> impl Strategy<Value = String> {
        prop_oneof![
            "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            "[0-9a-f]{32}"
        ]
    }

    /// As the kubelet names it: `CgroupName.ToCgroupfs` and `ToSystemd` in its
    /// `pkg/kubelet/cm/cgroup_manager_linux.go`.
    fn kubelets_name(systemd: bool, root: &[&str], class: &str, uid: &str) -> PathBuf {
        let pod = format!("pod{uid}");
        let names = root.iter().copied().chain(["kubepods", class, &pod]);
        let names: Vec<String> = names.filter(|name| !name.is_empty()).map(str::to_owned).collect();
        if !systemd {
            return names.iter().collect();
        }
        let escaped: Vec<String> = names.iter().map(|name| name.replace('-', "_")).collect();
        (1..=escaped.len())
            .map(|end| format!("{}.slice", escaped[..end].join("-")))
            .collect()
    }

    const ROOTS: &[&[&str]] = &[&[], &["kubelet"], &["docker", "4fe2", "kubelet"]];
    const CLASSES: &[&str] = &["", "burstable", "besteffort"];

    proptest! {
        #[test]
        fn whatever_the_kubelet_names_is_understood(
            uid in any_uid(),
            systemd: bool,
            root in select(ROOTS),
            class in select(CLASSES),
            below in "(/[a-z0-9.-]{1,20}){0,3}",
        ) {
            let pod = kubelets_name(systemd, root, class, &uid);
            let expected = Some(PodUid::from(uid.as_str()));
            prop_assert_eq!(pod_uid_of(&pod), expected.clone());
            prop_assert_eq!(pod_uid_of(&Path::new("/host/cgroup").join(&pod)), expected.clone());
            prop_assert_eq!(pod_uid_of(Path::new(&format!("{}{below}", pod.display()))), expected);
            prop_assert_eq!(pod_uid_of(pod.parent().unwrap()), None);
        }

        #[test]
        fn no_path_is_too_strange(path in "\\PC*") {
            pod_uid_of(Path::new(&path));
        }

        #[test]
        fn what_is_found_is_in_the_path(path in "(kubepods-|/)?pod[0-9a-f_-]{30,40}(\\.slice)?(/x)?") {
            if let Some(uid) = pod_uid_of(Path::new(&path)) {
                prop_assert!(path.replace('_', "-").contains(uid.as_str()), "{uid} in {path}");
            }
        }
    }
}
