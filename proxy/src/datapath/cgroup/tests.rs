use super::*;

const UNIFIED: &str = "\
22 28 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw
34 25 0:30 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
";

const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:4 master:1 - cgroup2 cgroup2 rw
";

const VERSION_1: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
";

/// A container without a cgroup namespace sees its part of the tree.
const NESTED: &str = "\
620 619 0:30 /docker/1f2e /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw
";

const HOST_PATH: &str = "\
620 619 0:30 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw
700 619 0:30 / /host/my\\040cgroup ro,relatime - cgroup2 cgroup rw
";

fn chosen(mountinfo: &str) -> Option<Mount> {
    choose(cgroup2_mounts(mountinfo))
}

fn mount(mount_point: &str, root: &str) -> Mount {
    Mount {
        mount_point: mount_point.into(),
        root: root.into(),
    }
}

#[test]
fn the_tree_is_found_on_every_kind_of_machine() {
    assert_eq!(chosen(UNIFIED), Some(mount("/sys/fs/cgroup", "/")));
    assert_eq!(chosen(HYBRID), Some(mount("/sys/fs/cgroup/unified", "/")));
    assert_eq!(chosen(NESTED), Some(mount("/sys/fs/cgroup", "/docker/1f2e")));
    assert_eq!(chosen(HOST_PATH), Some(mount("/sys/fs/cgroup", "/")));
    assert_eq!(chosen(VERSION_1), None);
}

#[test]
fn spaces_in_mount_points_are_unescaped() {
    assert_eq!(cgroup2_mounts(HOST_PATH)[1], mount("/host/my cgroup", "/"));
    assert_eq!(unescape(r"a\134b\0"), Path::new(r"a\b\0"));
}

#[test]
fn broken_lines_are_passed_over() {
    assert!(cgroup2_mounts("\n - cgroup2\n1 2 3 - cgroup2 x rw\n- \n").is_empty());
}

#[test]
fn the_own_cgroup_is_located_below_the_mount() {
    let unified = mount("/sys/fs/cgroup", "/");
    let own = |mount: &Mount, path: &str| mount.locate(Path::new(path)).map_err(|error| error.to_string());
    assert_eq!(own(&unified, "/"), Ok("/sys/fs/cgroup".into()));
    assert_eq!(
        own(&unified, "/user.slice/x.scope"),
        Ok("/sys/fs/cgroup/user.slice/x.scope".into())
    );
    let nested = mount("/sys/fs/cgroup", "/docker/1f2e");
    assert_eq!(
        own(&nested, "/docker/1f2e/child"),
        Ok("/sys/fs/cgroup/child".into())
    );
    let outside = own(&nested, "/system.slice").unwrap_err();
    assert!(outside.contains("outside of what is mounted"), "{outside}");
}

#[test]
fn the_line_of_version_2_is_picked() {
    let memberships = "9:name=systemd:/\n4:memory:/a/b\n0::/user.slice\n";
    assert_eq!(cgroup2_membership(memberships), Some(Path::new("/user.slice")));
    assert_eq!(cgroup2_membership("4:memory:/a/b\n"), None);
}
