//! What becomes of what the API server tells.

use super::*;
use crate::resolve::source::secrets::Change;

#[test]
fn before_the_first_list_nothing_is_known() {
    let (mut writer, reader) = store([INSTALLATION.to_owned(), "second".to_owned()]);
    assert_eq!(find(&reader, "orders"), Err(FindError::NotLoaded));
    writer.init(INSTALLATION);
    writer.init_apply(http("orders", "h").0);
    assert_eq!(
        find(&reader, "orders"),
        Err(FindError::NotLoaded),
        "the list is not complete"
    );
    writer.init_done(INSTALLATION);
    for name in ["orders", "other"] {
        assert_eq!(
            find(&reader, name),
            Err(FindError::NotLoaded),
            "one of that name that is older may be in the second namespace"
        );
    }
    assert!(!reader.is_loaded());
    list(&mut writer, "second", []);
    assert_eq!(host(&reader, "orders"), "h");
    assert_eq!(find(&reader, "other"), Err(FindError::NotFound));
    assert!(reader.is_loaded());
}

#[test]
fn a_younger_secret_is_not_taken_while_an_older_one_may_come() {
    let young = http("orders", "young").created(2);
    let old = http("orders", "old").created(1).namespace("second");
    let (mut writer, reader) = store([INSTALLATION.to_owned(), "second".to_owned()]);
    list(&mut writer, INSTALLATION, [young]);
    assert_eq!(find(&reader, "orders"), Err(FindError::NotLoaded));
    list(&mut writer, "second", [old]);
    assert_eq!(host(&reader, "orders"), "old");
}

#[test]
fn changes_are_live_at_once_and_deletions_too() {
    let (mut writer, reader) = loaded([]);
    writer.apply(http("orders", "one").0);
    assert_eq!(host(&reader, "orders"), "one");
    writer.apply(http("orders", "two").version(2).0);
    assert_eq!(host(&reader, "orders"), "two");
    writer.delete(http("orders", "two").version(2).0);
    assert_eq!(find(&reader, "orders"), Err(FindError::NotFound));
}

#[test]
fn a_secret_that_loses_its_label_is_gone() {
    let (mut writer, reader) = loaded([http("orders", "h")]);
    writer.apply(http("orders", "h").version(2).without_label().0);
    assert_eq!(find(&reader, "orders"), Err(FindError::NotFound));
}

#[test]
fn a_secret_may_become_another_destination() {
    let (mut writer, reader) = loaded([http("any", "h").with("Name", "one")]);
    writer.apply(http("any", "h").with("Name", "two").version(2).0);
    assert_eq!(find(&reader, "one"), Err(FindError::NotFound));
    assert_eq!(host(&reader, "two"), "h");
}

#[test]
fn a_list_replaces_what_was_known_when_it_is_complete() {
    let (mut writer, reader) = loaded([http("gone", "h"), http("kept", "h")]);
    writer.init(INSTALLATION);
    writer.init_apply(http("kept", "h").0);
    writer.init_apply(http("new", "h").0);
    assert_eq!(host(&reader, "gone"), "h");
    assert_eq!(find(&reader, "new"), Err(FindError::NotFound));
    writer.init_done(INSTALLATION);
    assert_eq!(find(&reader, "gone"), Err(FindError::NotFound));
    assert_eq!(host(&reader, "new"), "h");
}

#[test]
fn a_list_that_breaks_off_changes_nothing() {
    let (mut writer, reader) = loaded([http("one", "h"), http("two", "h")]);
    writer.init(INSTALLATION);
    writer.init_apply(http("two", "new").version(2).0);
    list(&mut writer, INSTALLATION, [http("one", "h")]);
    assert_eq!(host(&reader, "one"), "h");
    assert_eq!(find(&reader, "two"), Err(FindError::NotFound));
}

#[test]
fn a_list_of_one_namespace_says_nothing_about_another() {
    let (mut writer, reader) = store([INSTALLATION.to_owned(), "second".to_owned()]);
    list(&mut writer, INSTALLATION, [http("one", "h")]);
    list(&mut writer, "second", [http("two", "h").namespace("second")]);
    list(&mut writer, INSTALLATION, []);
    assert_eq!(find(&reader, "one"), Err(FindError::NotFound));
    assert_eq!(host(&reader, "two"), "h");
}

#[test]
fn what_does_not_change_keeps_its_identity() {
    let (mut writer, reader) = loaded([http("orders", "h").with("User", "me")]);
    let before = found(&reader, "orders");
    list(
        &mut writer,
        INSTALLATION,
        [http("orders", "h").with("User", "me")],
    );
    assert!(
        Arc::ptr_eq(&before, &found(&reader, "orders")),
        "the same version of the Secret"
    );
    writer.apply(
        http("orders", "h")
            .with("User", "me")
            .annotated("note", "x")
            .version(2)
            .0,
    );
    assert!(
        Arc::ptr_eq(&before, &found(&reader, "orders")),
        "another version with the same data"
    );
    let again = http("orders", "h").with("User", "me").uid("another").version(1);
    writer.delete(again.clone().0);
    writer.apply(again.0);
    assert_eq!(
        before.version,
        found(&reader, "orders").version,
        "deleted and made again"
    );
    writer.apply(http("orders", "h").with("User", "you").version(2).0);
    assert_ne!(before.version, found(&reader, "orders").version);
}

#[test]
fn deleted_and_made_again_with_the_same_version_is_read_again() {
    let (mut writer, reader) = loaded([http("orders", "one").uid("1")]);
    list(&mut writer, INSTALLATION, [http("orders", "two").uid("2")]);
    assert_eq!(host(&reader, "orders"), "two");
}

/// A rotation in two steps: the key store first, its password later. In between is neither
/// the old pair nor a mixed one.
#[test]
fn a_half_written_rotation_is_refused_until_it_is_complete() {
    const OLD: &[u8] = include_bytes!("../../../keystore/fixtures/pbes2.pem");
    const NEW: &[u8] = include_bytes!("../../../keystore/fixtures/sec1.pem");
    let given = |store: &[u8], password: &str, version| {
        http("orders", "h")
            .with("Authentication", "ClientCertificateAuthentication")
            .with("KeyStoreLocation", "client.pem")
            .with_bytes("client.pem", store)
            .with("KeyStorePassword", password)
            .version(version)
    };
    let (mut writer, reader) = loaded([given(OLD, "secret", 1)]);
    let old = found(&reader, "orders");
    writer.apply(given(OLD, "already the new one", 2).0);
    let Err(FindError::Invalid(refused)) = find(&reader, "orders") else {
        panic!("a wrong password");
    };
    assert!(refused.to_string().contains("its password is wrong"), "{refused}");
    writer.apply(given(NEW, "already the new one", 3).0);
    let new = found(&reader, "orders");
    assert_ne!(http_of(&old).tls, http_of(&new).tls);
}

#[test]
fn five_rotations_in_a_row_are_all_seen() {
    let (mut writer, reader) = loaded([http("orders", "h").with("URL.headers.Key", "0")]);
    for version in 1..=5 {
        let value = version.to_string();
        writer.apply(
            http("orders", "h")
                .with("URL.headers.Key", &value)
                .version(version + 1)
                .0,
        );
        assert_eq!(http_of(&found(&reader, "orders")).headers[0].1, value);
    }
}

#[test]
fn an_invalid_version_is_refused_although_there_was_a_good_one() {
    let (mut writer, reader) = loaded([http("orders", "h")]);
    writer.apply(secret("orders").with("Type", "HTTP").version(2).0);
    assert!(matches!(find(&reader, "orders"), Err(FindError::Invalid(_))));
    writer.apply(http("orders", "h").version(3).0);
    assert_eq!(host(&reader, "orders"), "h");
}

fn names(names: &[&str]) -> Change {
    Change::Names(names.iter().copied().map(Arc::from).collect())
}

#[tokio::test]
async fn subscribers_learn_what_is_answered_differently() {
    let (mut writer, reader) = store([INSTALLATION.to_owned()]);
    let mut changes = reader.subscribe();
    list(&mut writer, INSTALLATION, [http("one", "h"), http("same", "h")]);
    assert_eq!(changes.next().await, Some(Change::All), "everything is known now");
    list(&mut writer, INSTALLATION, [http("two", "h"), http("same", "h")]);
    assert_eq!(changes.next().await.unwrap(), names(&["one", "two"]));
    writer.apply(http("same", "h").annotated("note", "x").version(2).0);
    writer.apply(http("same", "h").allowing("[]").version(3).0);
    writer.apply(secret("two").version(2).0);
    assert_eq!(changes.next().await.unwrap(), names(&["same", "two"]));
    writer.apply(http("two", "h").with("Name", "three").version(3).0);
    assert_eq!(changes.next().await.unwrap(), names(&["two", "three"]));
    writer.apply(http("younger", "other").with("Name", "three").created(9).0);
    writer.delete(http("younger", "other").0);
    writer.delete(http("two", "h").0);
    assert_eq!(changes.next().await.unwrap(), names(&["three"]));
    drop(writer);
}

#[tokio::test]
async fn a_slow_subscriber_is_told_to_look_at_everything() {
    let (mut writer, reader) = loaded([]);
    let mut changes = reader.subscribe();
    for number in 0..1000 {
        writer.apply(http(&format!("d{number}"), "h").0);
    }
    assert_eq!(changes.next().await, Some(Change::All));
}

#[tokio::test]
async fn what_is_no_news_is_not_told() {
    let (mut writer, reader) = loaded([http("orders", "h")]);
    let mut changes = reader.subscribe();
    list(&mut writer, INSTALLATION, [http("orders", "h")]);
    writer.apply(http("orders", "h").annotated("note", "x").version(2).0);
    writer.delete(http("unknown", "h").0);
    writer.apply(http("new", "h").0);
    assert_eq!(changes.next().await.unwrap(), names(&["new"]));
}

#[test]
fn many_destinations_are_found_in_all_shards() {
    let name = |number: usize| format!("destination-{number}");
    let (mut writer, reader) = loaded((0..1000).map(|number| http(&name(number), &name(number))));
    writer.apply(http(&name(7), "changed").version(2).0);
    for number in 0..1000 {
        let expected = if number == 7 {
            "changed".to_owned()
        } else {
            name(number)
        };
        assert_eq!(host(&reader, &name(number)), expected);
    }
}
