//! Changes of files: what stays, what goes, and how soon.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::*;

#[test]
fn a_broken_file_keeps_its_last_good_version_and_disturbs_no_other() {
    let folder = Folder::new(&[("a.yaml", &http("a", "a1")), ("b.yaml", &http("b", "b1"))]);
    let first = folder.load(None);
    assert_eq!(served(&first), ["a=a1", "b=b1"]);
    for broken in [
        "",
        "Name: a\nType: [",
        "Name: a\nType: HTTP\n",
        "Type: HTTP\nURL: https://a2\n",
    ] {
        folder.write("a.yaml", broken);
        folder.write("b.yaml", &http("b", "b2"));
        let second = folder.load(Some(&first));
        let mut now = served(&second);
        now.sort();
        assert_eq!(now, ["a=a1", "b=b2"], "{broken:?}");
        assert!(second.all_problems().next().is_some(), "{broken:?}");
    }
    folder.remove("a.yaml");
    assert_eq!(served(&folder.load(Some(&first))), ["b=b2"]);
}

#[test]
fn an_unchanged_destination_keeps_its_identity() {
    let folder = Folder::new(&[("a.yaml", &http("a", "a"))]);
    let first = folder.load(None);
    folder.write("b.yaml", &http("b", "b"));
    folder.write("a.yaml", &format!("# comment\n{}", http("a", "a")));
    let second = folder.load(Some(&first));
    let [before, after] = [&first, &second].map(|s| s.destinations[0].current().unwrap().clone());
    assert!(Arc::ptr_eq(&before, &after));
}

#[test]
fn the_version_covers_secrets_and_key_stores() {
    let folder = Folder::new(&[
        ("secret", "one"),
        (
            "a.yaml",
            &format!("{}URL.headers.X-Key: ${{file:secret}}\n", http("a", "a")),
        ),
    ]);
    let version = |snapshot: &Snapshot| snapshot.destinations[0].current().unwrap().version;
    let first = folder.load(None);
    folder.write("secret", "two");
    let second = folder.load(Some(&first));
    assert_ne!(version(&first), version(&second));
    folder.write("secret", "one");
    assert_eq!(version(&first), version(&folder.load(Some(&second))));
}

#[test]
fn the_first_file_in_order_keeps_a_name_that_is_given_twice() {
    let folder = Folder::new(&[("a.yaml", &http("x", "a")), ("b.yaml", &http("X", "b"))]);
    let snapshot = folder.load(None);
    assert_eq!(served(&snapshot), ["x=a"]);
    let problem = snapshot.problems[0].to_string();
    assert!(
        problem.contains("b.yaml:1:1") && problem.contains("a.yaml:1:1"),
        "{problem}"
    );
}

#[test]
fn a_file_named_beside_its_folder_counts_once() {
    let folder = Folder::new(&[("a.yaml", &http("a", "a"))]);
    let paths = vec![folder.path(""), folder.path("a.yaml")];
    let snapshot = FileSource::new(paths).load(None);
    assert_eq!(snapshot.all_problems().count(), 0, "{snapshot:?}");
}

/// Changes are promised within 2 s; a busy test machine gets more.
const PATIENCE: Duration = Duration::from_secs(20);

async fn becomes(receiver: &mut watch::Receiver<Arc<Snapshot>>, expected: &[&str]) {
    until(receiver, |snapshot| {
        let mut served = served(snapshot);
        served.sort();
        served == expected
    })
    .await;
}

async fn until(receiver: &mut watch::Receiver<Arc<Snapshot>>, condition: impl FnMut(&Arc<Snapshot>) -> bool) {
    let arrived = timeout(PATIENCE, receiver.wait_for(condition)).await.map(drop);
    assert!(arrived.is_ok(), "it stays {:?}", receiver.borrow());
}

#[tokio::test]
async fn changes_are_live() {
    let folder = Folder::new(&[("a.yaml", &http("a", "a1"))]);
    let mut receiver = folder.source().watch();
    becomes(&mut receiver, &["a=a1"]).await;
    folder.write("a.yaml", &http("a", "a2"));
    becomes(&mut receiver, &["a=a2"]).await;
    folder.write("new.tmp", &http("b", "b1"));
    fs::rename(folder.path("new.tmp"), folder.path("b.yaml")).unwrap();
    becomes(&mut receiver, &["a=a2", "b=b1"]).await;
    folder.remove("a.yaml");
    becomes(&mut receiver, &["b=b1"]).await;
    folder.write("a.yaml", &http("a", "a3"));
    becomes(&mut receiver, &["a=a3", "b=b1"]).await;
}

#[tokio::test]
async fn a_folder_that_is_deleted_and_made_anew_is_followed() {
    let parent = Folder::new(&[]);
    let destinations = parent.path("destinations");
    fs::create_dir(&destinations).unwrap();
    fs::write(destinations.join("a.yaml"), http("a", "a1")).unwrap();
    let mut receiver = FileSource::new(vec![destinations.clone()]).watch();
    becomes(&mut receiver, &["a=a1"]).await;
    for round in 2..5 {
        fs::remove_dir_all(&destinations).unwrap();
        until(&mut receiver, |snapshot| !snapshot.problems.is_empty()).await;
        assert_eq!(served(&receiver.borrow()).len(), 1, "the last good version stays");
        fs::create_dir(&destinations).unwrap();
        let host = format!("a{round}");
        fs::write(destinations.join("a.yaml"), http("a", &host)).unwrap();
        becomes(&mut receiver, &[&format!("a={host}")]).await;
    }
}

/// The way the kubelet's atomic writer publishes `ConfigMap`s and `Secret`s:
/// <https://github.com/kubernetes/kubernetes/blob/v1.31.0/pkg/volume/util/atomic_writer.go>
fn publish(folder: &Folder, round: usize) {
    let version = folder.path(&format!("..2026_{round}"));
    fs::create_dir(&version).unwrap();
    fs::write(version.join("a.yaml"), http("a", &format!("a{round}"))).unwrap();
    symlink(format!("..2026_{round}"), folder.path("..data_tmp")).unwrap();
    fs::rename(folder.path("..data_tmp"), folder.path("..data")).unwrap();
    if round == 1 {
        symlink("..data/a.yaml", folder.path("a.yaml")).unwrap();
    } else {
        fs::remove_dir_all(folder.path(&format!("..2026_{}", round - 1))).unwrap();
    }
}

#[tokio::test]
async fn rotations_of_a_kubernetes_volume_are_followed() {
    let folder = Folder::new(&[]);
    publish(&folder, 1);
    let mut by_folder = folder.source().watch();
    let mut by_file = FileSource::new(vec![folder.path("a.yaml")]).watch();
    for round in 2..=6 {
        publish(&folder, round);
        let expected = format!("a=a{round}");
        becomes(&mut by_folder, &[&expected]).await;
        becomes(&mut by_file, &[&expected]).await;
        assert_eq!(by_folder.borrow().all_problems().count(), 0);
    }
}

#[tokio::test]
async fn referenced_files_elsewhere_are_followed() {
    let elsewhere = Folder::new(&[("host", "h1\n")]);
    let text = format!(
        "Name: a\nType: HTTP\nURL: https://${{file:{}}}\n",
        elsewhere.path("host").display()
    );
    let folder = Folder::new(&[("a.yaml", &text)]);
    let mut receiver = folder.source().watch();
    becomes(&mut receiver, &["a=h1"]).await;
    elsewhere.write("host", "h2\n");
    becomes(&mut receiver, &["a=h2"]).await;
    elsewhere.remove("host");
    until(&mut receiver, |snapshot| snapshot.all_problems().count() == 1).await;
    elsewhere.write("host", "h3\n");
    becomes(&mut receiver, &["a=h3"]).await;
}

#[tokio::test]
async fn watching_ends_with_the_last_receiver() {
    let folder = Folder::new(&[("a.yaml", &http("a", "a1"))]);
    let receiver = folder.source().watch();
    let metrics = tokio::runtime::Handle::current().metrics();
    assert_eq!(metrics.num_alive_tasks(), 1);
    drop(receiver);
    let ended = async {
        while metrics.num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, ended).await.unwrap();
}

#[test]
fn reading_a_thousand_destinations_again_changes_nothing() {
    let folder = Folder::new(&[]);
    let documents: Vec<String> = (0..1000).map(|n| http(&format!("d{n}"), "a")).collect();
    folder.write("a.yaml", &documents.join("---\n"));
    let first = folder.load(None);
    assert_eq!(first.destinations.len(), 1000);
    assert_eq!(first, folder.load(Some(&first)));
}

#[tokio::test]
async fn changes_are_live_without_file_system_events_too() {
    let folder = Folder::new(&[("a.yaml", &http("a", "a1"))]);
    let mut receiver = super::super::watch::watch_without_events(folder.source());
    becomes(&mut receiver, &["a=a1"]).await;
    folder.write("a.yaml", &http("a", "a2"));
    becomes(&mut receiver, &["a=a2"]).await;
}
