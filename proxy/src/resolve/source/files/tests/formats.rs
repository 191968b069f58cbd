//! The three formats, their shapes, and references.

use std::fmt::Write;
use std::os::unix::fs::symlink;

use proptest::prelude::*;

use super::super::{State, export, yaml};
use super::*;
use crate::resolve::source::document::{Entry, Node, Spanned};
use crate::resolve::source::json;

fn pairs(node: &Spanned<Node>) -> Vec<(String, String)> {
    let Node::Map(entries) = &node.value else {
        panic!("not a mapping");
    };
    let text = |node: &Node| match node {
        Node::Text(text) => text.to_string(),
        _ => panic!("not a text"),
    };
    let pair = |entry: &Entry| (entry.key.value.clone(), text(&entry.value.value));
    entries.iter().map(pair).collect()
}

fn places(node: &Spanned<Node>) -> Vec<(usize, usize)> {
    let Node::Map(entries) = &node.value else {
        panic!("not a mapping");
    };
    entries
        .iter()
        .map(|entry| (entry.key.at.line, entry.key.at.column))
        .collect()
}

#[test]
fn each_format_reads_the_same_destination() {
    let folder = Folder::new(&[
        (
            "a.json",
            r#"{"Name":"a","Type":"HTTP","URL":"https://a","URL.connectionTimeoutInSeconds":7,"TrustAll":true}"#,
        ),
        (
            "b.yaml",
            "Name: b\nType: HTTP\nURL: https://b\nURL.connectionTimeoutInSeconds: 7\nTrustAll: true\n",
        ),
        (
            "c.properties",
            "#\n#Mon Nov 23\nURL=https\\://c\nName=c\nType=HTTP\nURL.connectionTimeoutInSeconds=7\nTrustAll=TRUE\n",
        ),
        ("d", "URL=https\\://d\nName=d\nType=HTTP\n"),
        ("e", r#"[{"Name":"e","Type":"HTTP","URL":"https://e"}]"#),
        (
            "f.yml",
            "- Name: f\n  Type: HTTP\n  URL: https://f\n- destinationConfiguration:\n    Name: g\n    Type: HTTP\n    URL: https://g\n",
        ),
        (
            "h.json",
            r#"{"owner":{"SubaccountId":"1"},"destinationConfiguration":{"Name":"h","Type":"TCP","Address":"h:1"},"authTokens":[]}"#,
        ),
        (
            "i.yaml",
            "Name: i\nType: HTTP\nURL: https://i\n---\nName: j\nType: HTTP\nURL: https://j\n",
        ),
        (".hidden.yaml", "broken: ["),
        ("backup.yaml~", "broken: ["),
        ("ca.pem", "not a destination"),
        ("README.md", "not a destination"),
    ]);
    let snapshot = folder.load(None);
    assert_eq!(snapshot.all_problems().count(), 0, "{snapshot:?}");
    let expected = [
        "a=a", "b=b", "c=c", "d=d", "e=e", "f=f", "g=g", "h=h", "i=i", "j=j",
    ];
    assert_eq!(served(&snapshot), expected);
    assert_eq!(snapshot.ignored, [folder.path("README.md")]);
    for loaded in &snapshot.destinations[..3] {
        let State::Ok(destination) = &loaded.state else {
            panic!("{loaded:?}");
        };
        let crate::resolve::destination::Protocol::Http(http) = &destination.protocol else {
            panic!("{loaded:?}");
        };
        assert_eq!(http.connect_timeout.as_secs(), 7);
        assert!(http.tls.as_ref().unwrap().trust_all);
    }
}

#[test]
fn positions_are_those_of_the_keys() {
    let json = json::parse("{ \"ä\": \"ü\",\n  \"b\" : [1, {\"x\": null}], \"c\":true}").unwrap();
    assert_eq!(places(&json), [(1, 3), (2, 3), (2, 27)]);
    let yaml = yaml::parse("ä: ü\nb:\n  - 1\nc: true\n").unwrap();
    assert_eq!(places(&yaml[0]), [(1, 1), (2, 1), (4, 1)]);
    let export = export::parse("# ä\n  ä=ü\\\n  more\n\nc : d").unwrap();
    assert_eq!(places(&export), [(2, 3), (5, 1)]);
    assert_eq!(
        pairs(&export),
        [("ä".into(), "ümore".into()), ("c".into(), "d".into())]
    );
}

#[test]
fn yaml_values_stay_as_written() {
    let yaml = yaml::parse("a: 0123\nb: 1.0\nc: yes\nd: \"x\\ty\"\ne: TRUE\nf: 1e3\n").unwrap();
    let values: Vec<String> = pairs(&yaml[0]).into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, ["0123", "1.0", "yes", "x\ty", "TRUE", "1e3"]);
}

#[test]
fn references_are_replaced_once() {
    let folder = Folder::new(&[
        ("password", "with ${env:NOT_AGAIN}\r\n"),
        (
            "a.yaml",
            "Name: a\nType: HTTP\nURL: https://a\nAuthentication: BasicAuthentication\nUser: $${x} ${env:SECRET}!\nPassword: ${file:password}\n",
        ),
    ]);
    let snapshot = folder.load(None);
    assert_eq!(served(&snapshot), ["a=a"], "{snapshot:?}");
    let destination = snapshot.destinations[0].current().unwrap();
    let crate::resolve::destination::Protocol::Http(http) = &destination.protocol else {
        panic!("{destination:?}");
    };
    let crate::resolve::destination::Authentication::Basic { user, password } = &http.authentication else {
        panic!("{http:?}");
    };
    assert_eq!(user, "${x} from-env!");
    assert_eq!(password.expose(), "with ${env:NOT_AGAIN}");
}

#[test]
fn key_stores_do_not_leave_their_folder() {
    let outside = Folder::new(&[("ca.pem", "x")]);
    let folder = Folder::new(&[]);
    symlink(outside.path("ca.pem"), folder.path("link.pem")).unwrap();
    for location in ["link.pem", "../ca.pem", "/etc/hostname", "a/../../ca.pem"] {
        folder.write(
            "a.yaml",
            &format!("{}TrustStoreLocation: {location}\n", http("a", "a")),
        );
        let snapshot = folder.load(None);
        let problem = snapshot.all_problems().next().unwrap().to_string();
        assert!(problem.contains("leads out of the folder"), "{problem}");
    }
}

#[test]
fn special_files_are_no_destinations() {
    let folder = Folder::new(&[]);
    nix::unistd::mkfifo(&folder.path("a.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let snapshot = folder.load(None);
    let problem = snapshot.all_problems().next().unwrap().to_string();
    assert!(problem.ends_with("is not a regular file"), "{problem}");
}

/// As `java.util.Properties.store` writes it.
fn exported(pairs: &[(String, String)]) -> String {
    let mut text = String::from("#\n#Mon Nov 23 10:00:00 UTC 2026\n");
    for (key, value) in pairs {
        escape(key, true, &mut text);
        text.push('=');
        escape(value, false, &mut text);
        text.push('\n');
    }
    text
}

fn escape(text: &str, is_key: bool, out: &mut String) {
    for (index, c) in text.chars().enumerate() {
        match c {
            ' ' if is_key || index == 0 => out.push_str("\\ "),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\u{c}' => out.push_str("\\f"),
            '=' | ':' | '#' | '!' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04X}").unwrap();
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn exports_are_read_back(pairs in prop::collection::vec(("[^\\x00]{1,8}", ".{0,12}"), 1..5)) {
        let read = export::parse(&exported(&pairs)).map_err(|e| TestCaseError::fail(e.message))?;
        prop_assert_eq!(super::formats::pairs(&read), pairs);
    }

    #[test]
    fn json_texts_are_read_back(pairs in prop::collection::vec((".{0,8}", ".{0,12}"), 1..5)) {
        let object: Vec<String> = pairs
            .iter()
            .map(|(k, v)| format!("{}:{}", serde_json::json!(k), serde_json::json!(v)))
            .collect();
        let read = json::parse(&format!("{{{}}}", object.join(", "))).map_err(|e| TestCaseError::fail(e.message))?;
        prop_assert_eq!(super::formats::pairs(&read), pairs);
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in "(\\PC|[\\\\{}\\[\\]\"':,=#!&*<\n\t -]){0,60}") {
        drop(json::parse(&text));
        drop(yaml::parse(&text));
        drop(export::parse(&text));
        drop(super::super::references::files(&text, std::path::Path::new("/")));
    }
}
