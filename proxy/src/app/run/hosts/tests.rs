use super::*;

fn entry(last: u8, name: &str) -> Entry {
    Entry {
        address: [127, 66, 0, last].into(),
        name: name.into(),
    }
}

fn private_file(system: &str) -> (tempfile::TempDir, PrivateHosts) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("system"), system).unwrap();
    let hosts = PrivateHosts::new(folder.path().join("hosts"), folder.path().join("system"));
    (folder, hosts)
}

#[test]
fn the_private_file_has_the_destinations_and_the_machines_lines() {
    let (folder, hosts) = private_file("127.0.0.1 localhost\n# comment\n");
    hosts.update(&[entry(1, "my-dest"), entry(2, "other")]).unwrap();
    let text = fs::read_to_string(folder.path().join("hosts")).unwrap();
    assert_eq!(
        text,
        "127.66.0.1 my-dest\n127.66.0.2 other\n127.0.0.1 localhost\n# comment\n"
    );
}

#[test]
fn an_update_keeps_the_inode_and_leaves_nothing_of_a_longer_text() {
    let (folder, hosts) = private_file("127.0.0.1 localhost\n");
    let path = folder.path().join("hosts");
    hosts
        .update(&[entry(1, "a-very-long-destination-name"), entry(2, "other")])
        .unwrap();
    let inode = fs::metadata(&path).unwrap().ino();
    hosts.update(&[entry(2, "other")]).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        "127.66.0.2 other\n127.0.0.1 localhost\n"
    );
}

#[test]
fn a_missing_system_file_counts_as_empty() {
    let (folder, hosts) = private_file("");
    fs::remove_file(folder.path().join("system")).unwrap();
    hosts.update(&[entry(1, "my-dest")]).unwrap();
    assert_eq!(
        fs::read_to_string(folder.path().join("hosts")).unwrap(),
        "127.66.0.1 my-dest\n"
    );
}

#[test]
fn a_destination_wins_over_the_machines_line_of_the_same_name() {
    let system = "10.0.0.1 My-Dest alias # here\n10.0.0.2 my-dest\n10.0.0.3 else\n";
    assert_eq!(
        private(system, &[entry(1, "my-dest")]),
        "127.66.0.1 my-dest\n10.0.0.1 alias # here\n10.0.0.3 else\n"
    );
}

#[test]
fn only_the_lines_between_the_markers_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hosts");
    fs::write(&path, "10.0.0.1 before\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    {
        let hosts = PublicHosts::open(&path).unwrap();
        hosts.update(&[entry(1, "a")]).unwrap();
        hosts.update(&[entry(2, "b")]).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("10.0.0.1 before\n{BEGIN}\n127.66.0.2 b\n{END}\n"));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "10.0.0.1 before\n");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_file_that_we_made_goes_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hosts");
    let hosts = PublicHosts::open(&path).unwrap();
    hosts.update(&[entry(1, "a")]).unwrap();
    assert!(path.exists());
    drop(hosts);
    assert!(!path.exists());
}

#[test]
fn the_block_of_a_killed_process_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hosts");
    fs::write(
        &path,
        format!("{BEGIN}\n127.66.0.9 stale\n{END}\n10.0.0.1 after\n"),
    )
    .unwrap();
    let hosts = PublicHosts::open(&path).unwrap();
    hosts.update(&[entry(1, "a")]).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text, format!("10.0.0.1 after\n{BEGIN}\n127.66.0.1 a\n{END}\n"));
}

#[test]
fn a_block_without_end_does_not_swallow_the_users_lines() {
    assert_eq!(
        without_block(&format!("{BEGIN}\n10.0.0.1 mine\n")),
        "10.0.0.1 mine\n"
    );
}

#[test]
fn a_symbolic_link_stays_one() {
    let folder = tempfile::tempdir().unwrap();
    let (file, link) = (folder.path().join("file"), folder.path().join("link"));
    fs::write(&file, "").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    PublicHosts::open(&link)
        .unwrap()
        .update(&[entry(1, "a")])
        .unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

#[test]
fn nsswitch_is_only_changed_where_files_is_not_first() {
    assert_eq!(
        nsswitch_with_files_first("passwd: files\nhosts: files dns\n"),
        None
    );
    assert_eq!(nsswitch_with_files_first("passwd: files\n"), None);
    assert_eq!(
        nsswitch_with_files_first("hosts:  resolve [!UNAVAIL=return] files dns # x\npasswd: files\n")
            .unwrap(),
        "hosts: files resolve [!UNAVAIL=return] dns\npasswd: files\n"
    );
}
