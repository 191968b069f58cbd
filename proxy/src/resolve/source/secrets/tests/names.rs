//! Which Secret is which destination, and for whom.

use super::*;
use crate::resolve::source::secrets::{Report, Trouble};

#[test]
fn the_name_is_the_property_or_that_of_the_secret() {
    let (_writer, reader) = loaded([
        http("one", "one").with("Name", "Orders_2.0"),
        http("two", "two"),
        http("three", "three").with("Name", " \n"),
    ]);
    assert_eq!(host(&reader, "Orders_2.0"), "one");
    assert_eq!(found(&reader, "Orders_2.0").name.as_str(), "Orders_2.0");
    assert_eq!(host(&reader, "two"), "two");
    assert_eq!(host(&reader, "three"), "three");
    assert_eq!(find(&reader, "one"), Err(FindError::NotFound));
    assert_eq!(
        find(&reader, "orders_2.0"),
        Err(FindError::NotFound),
        "names are case-sensitive"
    );
}

#[test]
fn a_name_that_is_none_is_told_to_those_who_use_the_secrets_name() {
    let (_writer, reader) = loaded([http("orders", "h").with("Name", "a@provider_subaccount")]);
    let Err(FindError::Invalid(refused)) = find(&reader, "orders") else {
        panic!("it is refused");
    };
    assert!(
        refused
            .to_string()
            .starts_with("Name is [hidden]; a name has 1 to 200 characters"),
        "{refused}"
    );
    assert_eq!(find(&reader, "a@provider_subaccount"), Err(FindError::NotFound));
}

#[test]
fn a_secret_that_cannot_be_read_any_more_keeps_the_name_it_had() {
    let json = r#"{"Name": "orders", "Type": "HTTP", "URL": "https://h"}"#;
    let (mut writer, reader) = loaded([secret("any").json(json)]);
    writer.apply(secret("any").json("{").version(2).0);
    assert!(matches!(find(&reader, "orders"), Err(FindError::Invalid(_))));
    assert_eq!(find(&reader, "any"), Err(FindError::NotFound));
    writer.apply(secret("any").json(json).version(3).0);
    assert_eq!(host(&reader, "orders"), "h");
}

#[test]
fn of_two_secrets_with_one_name_the_older_one_has_it() {
    let young = http("a", "young").with("Name", "orders").created(2);
    let old = http("b", "old").with("Name", "orders").created(1);
    for order in [[young.clone(), old.clone()], [old.clone(), young.clone()]] {
        let (mut writer, reader) = loaded(order);
        assert_eq!(host(&reader, "orders"), "old");
        let [
            Report {
                secret,
                destination,
                trouble: Trouble::Taken(winner),
            },
        ] = &*reader.reports()
        else {
            panic!("{:?}", reader.reports());
        };
        assert_eq!(
            (secret.to_string().as_str(), &**destination),
            ("proxy/a", "orders")
        );
        assert_eq!(winner.to_string(), "proxy/b");
        writer.delete(old.clone().0);
        assert_eq!(host(&reader, "orders"), "young");
        assert_eq!(reader.reports(), []);
    }
}

#[test]
fn of_two_secrets_of_one_second_the_names_decide() {
    let one = http("x", "one").with("Name", "orders");
    let other = http("a", "other").with("Name", "orders").namespace("second");
    let (mut writer, reader) = store([INSTALLATION.to_owned(), "second".to_owned()]);
    list(&mut writer, "second", [other]);
    list(&mut writer, INSTALLATION, [one]);
    assert_eq!(host(&reader, "orders"), "one");
}

#[test]
fn an_invalid_secret_keeps_its_name_from_younger_ones() {
    let (_writer, reader) = loaded([
        secret("a").with("Name", "orders").with("Type", "FTP").created(1),
        http("b", "young").with("Name", "orders").created(2),
    ]);
    assert!(matches!(find(&reader, "orders"), Err(FindError::Invalid(_))));
    let troubles: Vec<_> = reader
        .reports()
        .into_iter()
        .map(|report| report.trouble)
        .collect();
    assert!(
        matches!(&troubles[..], [Trouble::Refused(_), Trouble::Taken(_)]),
        "{troubles:?}"
    );
}

#[test]
fn the_annotation_narrows_who_may_use_a_destination() {
    let cases: [(&str, &[&str], &[&str]); 5] = [
        (
            r#"["shop", "test"]"#,
            &["shop", "test"],
            &["other", "", "Shop", "*"],
        ),
        (r#"["*"]"#, &["shop", "other"], &[]),
        (r#"["shop", "*"]"#, &["shop", "other"], &[]),
        ("[]", &[], &["shop", "proxy"]),
        (r#"[""]"#, &[], &["shop"]),
    ];
    for (annotation, allowed, refused) in cases {
        let (_writer, reader) = loaded([http("orders", "h").allowing(annotation)]);
        for namespace in allowed {
            assert!(
                find_for(&reader, "orders", namespace).is_ok(),
                "{annotation} {namespace}"
            );
        }
        for namespace in refused {
            assert_eq!(
                find_for(&reader, "orders", namespace),
                Err(FindError::NotFound),
                "{annotation} {namespace}"
            );
        }
    }
}

#[test]
fn an_annotation_that_cannot_be_read_allows_nobody() {
    for annotation in [
        "",
        "shop",
        "*",
        "null",
        "{}",
        r#"{"shop": true}"#,
        r#"["shop", 1]"#,
        r#"["shop""#,
        r#""*""#,
    ] {
        let (_writer, reader) = loaded([http("orders", "h").allowing(annotation)]);
        assert_eq!(find(&reader, "orders"), Err(FindError::NotFound), "{annotation}");
    }
}

#[test]
fn whether_it_is_invalid_is_not_for_everybody() {
    let (_writer, reader) = loaded([secret("orders").allowing(r#"["shop"]"#)]);
    assert!(matches!(
        find_for(&reader, "orders", "shop"),
        Err(FindError::Invalid(_))
    ));
    assert_eq!(find_for(&reader, "orders", "other"), Err(FindError::NotFound));
}

#[test]
fn secrets_without_label_or_of_other_namespaces_are_nothing() {
    let (mut writer, reader) = loaded([http("one", "h").without_label()]);
    writer.apply(http("two", "h").namespace("other").0);
    for name in ["one", "two"] {
        assert_eq!(find(&reader, name), Err(FindError::NotFound));
    }
}
