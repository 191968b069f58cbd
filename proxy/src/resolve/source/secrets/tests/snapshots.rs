//! What of the destinations may be written to a file.

use super::*;
use crate::resolve::properties::Properties;
use crate::resolve::source::secrets::{Snapshot, needs_no_credential};

fn properties(pairs: &[(&str, &str)]) -> Properties {
    pairs.iter().copied().collect()
}

#[test]
fn destinations_without_credentials_are_harmless() {
    let cases: [&[(&str, &str)]; 5] = [
        &[("Name", "a"), ("Type", "HTTP"), ("URL", "https://h")],
        &[
            ("Name", "a"),
            ("Type", "HTTP"),
            ("URL", "h:8080/"),
            ("Authentication", "noauthentication"),
            ("TrustAll", "TRUE"),
        ],
        &[
            ("Name", "a"),
            ("Type", "TCP"),
            ("Address", "tcp://h:1"),
            ("tcp.nodelay", "true"),
            ("service.port", "5432"),
        ],
        &[
            ("Name", "a"),
            ("Type", "HTTP"),
            ("URL", "https://h"),
            ("Description", "hunter2"),
            ("department", "hunter2"),
        ],
        &[
            ("Name", "a"),
            ("Type", "HTTP"),
            ("URL", "https://h"),
            ("URL.connectionTimeoutInSeconds", "7"),
            ("User", ""),
        ],
    ];
    for case in cases {
        assert!(needs_no_credential(&properties(case)), "{case:?}");
    }
}

#[test]
fn whatever_may_hold_a_secret_is_not_harmless() {
    let cases = [
        ("Authentication", "BasicAuthentication"),
        ("User", "me"),
        ("Password", "hunter2"),
        ("URL.headers.X", "hunter2"),
        ("URL.queries.key", "hunter2"),
        ("KeyStoreLocation", "client.p12"),
        ("TrustStoreLocation", "ca.pem"),
        ("clientSecret", "hunter2"),
        ("tokenServiceURL", "https://h"),
        ("tokenService.body.x", "hunter2"),
        ("URL", "https://me:hunter2@h"),
        ("URL", "https://h?key=hunter2"),
        ("URL", "https://h/services/hunter2"),
        ("URL", "https://h/#hunter2"),
        ("URL", "hunter2 hunter2"),
        ("Address", "me:hunter2@h:1"),
        ("Name", "hunter2!"),
        ("URL.connectionTimeoutInSeconds", "hunter2"),
        ("TrustAll", "hunter2"),
        ("HostnameVerifier", "hunter2"),
        ("ProxyType", "hunter2"),
        ("tcp.socket.timeout", "hunter2"),
    ];
    for (property, value) in cases {
        let mut given = properties(&[("Name", "a"), ("Type", "HTTP"), ("URL", "https://h")]);
        given.insert(property, value);
        assert!(!needs_no_credential(&given), "{property}: {value}");
    }
}

fn restored(snapshot: &Snapshot) -> (Writer, Reader) {
    let (mut writer, reader) = store([INSTALLATION.to_owned()]);
    writer.restore(snapshot);
    (writer, reader)
}

/// Written to a file and read back.
fn snapshot(reader: &Reader) -> Snapshot {
    let text = serde_json::to_string(&reader.snapshot().unwrap()).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_snapshot_serves_until_the_secrets_have_been_listed() {
    let (_writer, reader) = loaded([
        http("open", "open.example").with("URL.socketReadTimeoutInSeconds", "7"),
        http("narrow", "narrow.example").allowing(r#"["shop"]"#),
        secret("db").with("Type", "TCP").with("Address", "db:5432"),
        http("secret", "h").with("URL.headers.Key", "hunter2"),
        secret("broken"),
    ]);
    let snapshot = snapshot(&reader);
    assert_eq!(snapshot.len(), 3);
    let (mut writer, again) = restored(&snapshot);
    for name in ["open", "narrow", "db"] {
        assert_eq!(
            find(&again, name),
            find(&reader, name),
            "with the same version, so that pools survive"
        );
    }
    assert_eq!(find_for(&again, "narrow", "other"), Err(FindError::NotLoaded));
    for name in ["secret", "broken", "unknown"] {
        assert_eq!(find(&again, name), Err(FindError::NotLoaded));
    }
    list(&mut writer, INSTALLATION, [http("open", "new.example")]);
    assert_eq!(host(&again, "open"), "new.example");
    assert_eq!(find(&again, "narrow"), Err(FindError::NotFound));
}

#[test]
fn there_is_no_snapshot_before_the_secrets_have_been_listed() {
    let (_writer, reader) = loaded([http("open", "h")]);
    let (_writer, again) = restored(&snapshot(&reader));
    assert_eq!(
        again.snapshot(),
        None,
        "it would take the place of a complete one"
    );
}

#[test]
fn the_same_destinations_make_the_same_snapshot() {
    let names = ["a", "b", "c", "d"];
    let (_writer, one) = loaded(names.iter().map(|name| http(name, "h")));
    let (_writer, other) = loaded(names.iter().rev().map(|name| http(name, "h")));
    assert_eq!(one.snapshot(), other.snapshot());
}

#[test]
fn the_file_is_readable() {
    let (_writer, reader) = loaded([http("open", "h").allowing(r#"["shop"]"#)]);
    let text = serde_json::to_string(&reader.snapshot()).unwrap();
    let expected = r#"[{"allowedNamespaces":{"only":["shop"]},"properties":{"Name":"open","Type":"HTTP","URL":"https://h"}}]"#;
    assert_eq!(text, expected);
}

#[test]
fn a_file_that_somebody_has_changed_gives_nobody_credentials() {
    let text = r#"[{"allowedNamespaces": "all", "properties": {"Name": "a", "Type": "HTTP", "URL": "https://h", "URL.headers.X": "y"}},
                   {"allowedNamespaces": "all", "properties": {"Name": "b", "Type": "HTTP"}}]"#;
    let (_writer, reader) = restored(&serde_json::from_str(text).unwrap());
    for name in ["a", "b"] {
        assert_eq!(find(&reader, name), Err(FindError::NotLoaded));
    }
}
