//! No value of a Secret is in any text, whatever is wrong with it.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::api::destination as api;
use crate::error::{self, Names, catalogue};
use crate::resolve::check::{self, NotConfigured};
use crate::resolve::destination::known::PROPERTIES;

/// No text may ever contain it.
const MARKER: &str = "MARKER";

/// Values that are a marker where they are one, and go far where they are none.
const VALUES: &[&str] = &[
    "MARKER",
    "MARKER\n",
    "HTTP",
    "TCP",
    "true",
    "https://h",
    "https://MARKER:MARKER@h/",
    "https://h:MARKER/",
    "https://h/MARKER MARKER?MARKER",
    "https://[MARKER]/",
    "https://MARKER..h/",
    "MARKER://h",
    "http://h/",
    "http://localhost/MARKER",
    "tcp://h:1/MARKER",
    "MARKER:99999",
    "BasicAuthentication",
    "ClientCertificateAuthentication",
    "OAuth2ClientCredentials",
    "OAuth2Password",
    "OnPremise",
    "${env:MARKER}",
    "${file:/MARKER}",
    "<< MARKER removed on export >>",
    "-----BEGIN CERTIFICATE-----\nMARKER\n-----END CERTIFICATE-----",
    "-----BEGIN PRIVATE KEY-----\nTUFSS0VSCg==\n-----END PRIVATE KEY-----",
    "store",
    "7",
    "",
    "{\"MARKER\"",
    "[\"MARKER\"]",
];

fn properties() -> Vec<String> {
    let name = |name: &str| match name {
        prefix if prefix.ends_with('.') => format!("{prefix}X-Key"),
        whole => whole.to_owned(),
    };
    let known = PROPERTIES.iter().map(|known| name(known.name));
    known
        .chain(["Passwort".to_owned(), "unknown".to_owned(), "store".to_owned()])
        .collect()
}

fn given() -> impl Strategy<Value = Vec<(String, &'static str)>> {
    let pair = (select(properties()), select(VALUES)).prop_map(|(name, value)| {
        // Names and hosts of good destinations are no secrets.
        let shown = matches!(name.as_str(), "Name" | "URL") && value == MARKER;
        (name, if shown { "MARKER !" } else { value })
    });
    proptest::collection::vec(pair, 0..12)
}

fn as_json(pairs: &[(String, &str)]) -> String {
    let pair =
        |(name, value): &(String, &str)| format!("{}:{}", serde_json::json!(name), serde_json::json!(value));
    let pairs: Vec<String> = pairs.iter().map(pair).collect();
    format!("{{{}}}", pairs.join(","))
}

/// All that anybody is told about the destination of this name.
fn texts(reader: &Reader) -> String {
    let found = find(reader, "orders");
    let mut texts = vec![format!("{:?} {:?}", reader.reports(), found.as_ref().err())];
    match found.clone() {
        Ok(destination) => texts.push(format!("{:?}", destination.warnings)),
        Err(error) => {
            let error = error::Error::from(crate::resolve::Error::of_static(error));
            texts.push(format!("{error} {error:?}"));
            texts.push(catalogue::message(&error, Names::of_destination("orders")));
        }
    }
    let mut cr = api::Destination::new("orders", api::DestinationSpec::default());
    "orders".clone_into(&mut cr.spec.destination_ref.name);
    if let Err(NotConfigured::Refused(verdict)) = check::check(&cr, found) {
        texts.push(verdict.message);
    }
    texts.join("\n")
}

proptest! {
    #[test]
    fn no_text_quotes_a_value(pairs in given(), json in any::<bool>()) {
        let secret = if json {
            secret("orders").json(&as_json(&pairs))
        } else {
            pairs.iter().fold(secret("orders"), |secret, (name, value)| secret.with(name, value))
        };
        let (_writer, reader) = loaded([secret]);
        let texts = texts(&reader);
        prop_assert!(!texts.contains(MARKER), "{texts}");
    }

    #[test]
    fn no_snapshot_holds_a_value_that_may_be_a_secret(pairs in given(), good in any::<bool>()) {
        let secret = if good { http("orders", "h") } else { secret("orders") };
        let secret = pairs.iter().fold(secret, |secret, (name, value)| secret.with(name, value));
        let (_writer, reader) = loaded([secret]);
        let text = serde_json::to_string(&reader.snapshot()).unwrap();
        prop_assert!(!text.contains(MARKER), "{text}");
    }

    #[test]
    fn no_secret_makes_the_reader_panic(key in "[A-Za-z.]{1,12}", value in proptest::collection::vec(any::<u8>(), 0..40)) {
        loaded([secret("orders").with_bytes(&key, &value)]);
    }
}

#[test]
fn the_secret_is_overwritten_when_it_has_been_read() {
    let mut given = http("orders", "h")
        .annotated("kubectl.kubernetes.io/last-applied-configuration", "MARKER")
        .0;
    drop(super::super::data_keys::DataKeys::take(&mut given));
    assert_eq!(given.data, None);
    assert!(!format!("{given:?}").contains(MARKER));
}

/// What is logged meanwhile, by this thread.
fn logged(act: impl FnOnce()) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    let writer = Arc::new(file.reopen().unwrap());
    let subscriber = tracing_subscriber::fmt().with_writer(writer).finish();
    tracing::subscriber::with_default(subscriber, act);
    std::fs::read_to_string(file.path()).unwrap()
}

#[test]
fn certificates_that_have_expired_are_logged_by_property_not_by_where_they_are() {
    const CLIENT: &[u8] = include_bytes!("../../../keystore/fixtures/expired-client.pem");
    const TRUSTED: &[u8] = include_bytes!("../../../keystore/fixtures/trust.pem");
    let given = http("orders", "h")
        .with("Authentication", "ClientCertificateAuthentication")
        .with("KeyStoreLocation", "MARKER.pem")
        .with_bytes("MARKER.pem", CLIENT)
        .with("TrustStoreLocation", "MARKER-CA.pem")
        .with_bytes("MARKER-CA.pem", TRUSTED);
    let log = logged(|| {
        let (_writer, reader) = loaded([given]);
        found(&reader, "orders");
    });
    for property in ["KeyStoreLocation", "TrustStoreLocation"] {
        assert!(log.contains(property), "{log}");
    }
    assert!(!log.contains(MARKER), "{log}");
}
