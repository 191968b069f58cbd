use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use proptest::prelude::*;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::*;
use crate::resolve::keystore::ClientIdentity;
use crate::secret::Secret;

type Configuration = (String, OAuth2Client, Grant);

/// Few different values, so that equal ones are common too.
fn text() -> impl Strategy<Value = String> + Clone {
    "[ab]{0,2}"
}

fn secret() -> impl Strategy<Value = Secret> + Clone {
    text().prop_map(Secret::from)
}

fn url() -> impl Strategy<Value = TargetUrl> {
    let scheme = prop_oneof![Just(Scheme::Http), Just(Scheme::Https)];
    (
        scheme,
        text(),
        0_u16..2,
        text(),
        text(),
        proptest::option::of(text()),
    )
        .prop_map(|(scheme, host, port, authority, path, query)| {
            let authority = HeaderValue::from_str(&authority).expect("ASCII");
            TargetUrl {
                scheme,
                host,
                port,
                authority,
                path,
                query,
            }
        })
}

fn store() -> impl Strategy<Value = CertificateStore> {
    let certificate = text().prop_map(|text| CertificateDer::from(text.into_bytes()));
    proptest::collection::vec(certificate, 0..2).prop_map(CertificateStore)
}

fn identity() -> impl Strategy<Value = ClientIdentity> {
    (store(), text(), store()).prop_map(|(chain, key, authorities)| ClientIdentity {
        chain: chain.0,
        key: Arc::new(PrivateKeyDer::Pkcs8(key.into_bytes().into())),
        authorities,
    })
}

fn policy() -> impl Strategy<Value = TlsPolicy> {
    let names = prop_oneof![
        Just(HostnameVerifier::Strict),
        Just(HostnameVerifier::BrowserCompatible)
    ];
    (any::<bool>(), store(), names, proptest::option::of(identity())).prop_map(
        |(trust_all, trust_store, hostname_verifier, client_identity)| TlsPolicy {
            trust_all,
            trust_store,
            hostname_verifier,
            client_identity,
        },
    )
}

fn header() -> impl Strategy<Value = (HeaderName, HeaderValue)> {
    ("[ab]", text()).prop_map(|(name, value)| {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        (name, HeaderValue::from_str(&value).expect("a value"))
    })
}

fn client() -> impl Strategy<Value = OAuth2Client> {
    let option = proptest::option::of::<proptest::strategy::BoxedStrategy<String>>;
    let texts = (
        text(),
        proptest::option::of(secret()),
        proptest::option::of((text(), secret())),
    );
    let more = (
        any::<bool>(),
        option(text().boxed()),
        proptest::collection::vec((text(), secret()), 0..3),
        proptest::collection::vec(header(), 0..2),
        secret(),
    );
    let rest = (0_u64..2, 0_u64..2, proptest::option::of(policy()));
    (url(), texts, more, rest).prop_map(|(token_service_url, texts, more, rest)| OAuth2Client {
        token_service_url,
        client_id: texts.0,
        client_secret: texts.1,
        token_service_user: texts.2,
        credentials_in_body: more.0,
        scope: more.1,
        body: more.2,
        headers: more.3,
        queries: more.4,
        connect_timeout: Duration::from_secs(rest.0),
        read_timeout: Duration::from_secs(rest.1),
        tls: rest.2.map(Arc::new),
    })
}

fn configuration() -> impl Strategy<Value = Configuration> {
    let grant = prop_oneof![
        Just(Grant::ClientCredentials),
        (text(), secret()).prop_map(|(user, password)| Grant::Password { user, password }),
    ];
    (text(), client(), grant)
}

/// `one` with the part of that number taken from `other`.
fn with_part(one: &Configuration, other: &Configuration, part: usize) -> Configuration {
    let mut mixed = one.clone();
    match part {
        0 => mixed.0.clone_from(&other.0),
        1 => mixed.2 = other.2.clone(),
        2 => mixed.1.client_id.clone_from(&other.1.client_id),
        3 => mixed.1.client_secret.clone_from(&other.1.client_secret),
        4 => mixed.1.token_service_user.clone_from(&other.1.token_service_user),
        5 => mixed.1.credentials_in_body = other.1.credentials_in_body,
        6 => mixed.1.scope.clone_from(&other.1.scope),
        7 => mixed.1.body.clone_from(&other.1.body),
        8 => mixed.1.headers.clone_from(&other.1.headers),
        9 => mixed.1.queries = other.1.queries.clone(),
        10 => mixed.1.connect_timeout = other.1.connect_timeout,
        11 => mixed.1.read_timeout = other.1.read_timeout,
        12 => mixed.1.tls.clone_from(&other.1.tls),
        _ => mixed.1.token_service_url = other.1.token_service_url.clone(),
    }
    mixed
}

const PARTS: usize = 14;

fn key(keys: &Keys, (name, client, grant): &Configuration) -> Key {
    keys.of(&DestinationName::new_unchecked(name), client, grant)
}

proptest! {
    #[test]
    fn configurations_share_an_entry_only_if_they_are_equal(
        one in configuration(),
        other in configuration(),
    ) {
        let keys = Keys::new();
        prop_assert_eq!(one == other, key(&keys, &one) == key(&keys, &other));
        for part in 0..PARTS {
            let mixed = with_part(&one, &other, part);
            prop_assert_eq!(one == mixed, key(&keys, &one) == key(&keys, &mixed), "part {}", part);
        }
    }
}

#[test]
fn keys_of_two_processes_cannot_be_compared() {
    let configuration = (
        "d".to_owned(),
        crate::credentials::test_service::client(Scheme::Http, ([127, 0, 0, 1], 1).into()),
        Grant::ClientCredentials,
    );
    assert_ne!(
        key(&Keys::new(), &configuration),
        key(&Keys::new(), &configuration)
    );
}
