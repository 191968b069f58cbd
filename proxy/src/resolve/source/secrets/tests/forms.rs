//! How Secrets are written.

use super::*;
use crate::resolve::destination::Authentication;

const P12: &[u8] = include_bytes!("../../../keystore/fixtures/aes.p12");
const PEM: &[u8] = include_bytes!("../../../keystore/fixtures/pkcs8.pem");
const JKS: &[u8] = include_bytes!("../../../keystore/fixtures/store.jks");
const ROOT: &[u8] = include_bytes!("../../../keystore/fixtures/root.crt");

#[test]
fn every_data_key_is_a_property() {
    let secret = http("orders", "orders.example")
        .with("Authentication", "BasicAuthentication")
        .with("User", "me")
        .with("Password", "hunter2")
        .with("URL.headers.X-Key", "k")
        .with("service.port", "8080");
    let (_writer, reader) = loaded([secret]);
    let destination = found(&reader, "orders");
    let http = http_of(&destination);
    let basic = Authentication::Basic {
        user: "me".to_owned(),
        password: "hunter2".into(),
    };
    assert_eq!(http.authentication, basic);
    assert_eq!(http.headers[0].0, "x-key");
    assert_eq!(destination.service_port, 8080);
}

#[test]
fn one_key_may_hold_an_export_as_json() {
    let plain = r#"{"Name": "orders", "Type": "HTTP", "URL": "https://h", "URL.connectionTimeoutInSeconds": 7,
                    "TrustAll": true, "Description": null, "URL.headers.X!Y": "only possible here"}"#;
    let wrapped = format!(
        r#"{{"owner": {{"SubaccountId": "1"}}, "destinationConfiguration": {plain}, "authTokens": []}}"#
    );
    let marked = format!("\u{feff}\n{plain}\n");
    for text in [plain, &wrapped, &marked] {
        let (_writer, reader) = loaded([secret("any").json(text)]);
        let destination = found(&reader, "orders");
        let http = http_of(&destination);
        assert_eq!(http.connect_timeout.as_secs(), 7);
        assert_eq!(http.headers[0].0, "x!y");
        assert!(http.tls.as_ref().unwrap().trust_all);
    }
}

#[test]
fn both_forms_make_the_same_version() {
    let as_keys = http("orders", "h").with("User", "me");
    let as_json = secret("orders").json(r#"{"Type": "HTTP", "URL": "https://h", "User": "me"}"#);
    let (_writer, one) = loaded([as_keys]);
    let (_writer, other) = loaded([as_json]);
    assert_eq!(found(&one, "orders").version, found(&other, "orders").version);
}

#[test]
fn key_stores_are_further_data_keys() {
    for (key, store, password) in [("client.p12", P12, "secret"), ("client", PEM, "")] {
        let as_keys = http("orders", "h")
            .with("Authentication", "ClientCertificateAuthentication")
            .with("KeyStoreLocation", key)
            .with("KeyStorePassword", password)
            .with_bytes(key, store);
        let json = format!(
            r#"{{"Type": "HTTP", "URL": "https://h", "Authentication": "ClientCertificateAuthentication",
                "KeyStoreLocation": "{key}", "KeyStorePassword": "{password}"}}"#
        );
        let as_json = secret("orders").json(&json).with_bytes(key, store);
        for given in [as_keys, as_json] {
            let (_writer, reader) = loaded([given]);
            let destination = found(&reader, "orders");
            let tls = http_of(&destination).tls.as_ref().unwrap();
            assert!(tls.client_identity.is_some(), "{key}");
        }
    }
}

#[test]
fn trust_stores_are_further_data_keys() {
    let secret = http("orders", "h")
        .with("TrustStoreLocation", "ca.crt")
        .with_bytes("ca.crt", ROOT);
    let (_writer, reader) = loaded([secret]);
    let destination = found(&reader, "orders");
    assert_eq!(http_of(&destination).tls.as_ref().unwrap().trust_store.0.len(), 1);
}

#[test]
fn unusable_key_stores_are_refused() {
    let given = |key: &str| {
        http("orders", "h")
            .with("Authentication", "ClientCertificateAuthentication")
            .with("KeyStoreLocation", key)
    };
    assert_eq!(
        problems(given("nothing.p12")),
        [
            "KeyStoreLocation names a key that the Secret does not have; add the store to the Secret under that name"
        ]
    );
    let java = problems(given("store.jks").with_bytes("store.jks", JKS));
    assert!(java[0].contains("it is a Java key store (JKS)"), "{java:?}");
    let missing = problems(http("orders", "h").with("Authentication", "ClientCertificateAuthentication"));
    assert_eq!(
        missing,
        [
            "KeyStoreLocation is missing; name a key of the Secret that holds the client certificate and its key"
        ]
    );
}

#[test]
fn broken_json_says_where_and_nothing_else() {
    assert_eq!(
        problems(secret("orders").json("{\"Type\": \"HTTP\",\n oops}")),
        [
            "destination.json is not valid JSON, line 2, column 2: key must be a string; \
          check quotes, commas and brackets here and in the line above"
        ]
    );
    assert_eq!(
        problems(secret("orders").json("[]")),
        ["destination.json is not a JSON object with the properties of one destination"]
    );
    assert_eq!(
        problems(secret("orders").json(r#"{"destinationConfiguration": "x"}"#)),
        ["destination.json is not a JSON object with the properties of one destination"]
    );
}

#[test]
fn one_secret_is_one_destination() {
    let two = secret("orders").with("a.json", "{}").with("b.json", "{}");
    assert_eq!(
        problems(two),
        ["a.json holds a destination as JSON, and so does b.json; one Secret is one destination"]
    );
}

#[test]
fn properties_of_json_are_texts_numbers_or_booleans_and_stand_once() {
    let json = r#"{"Type": "HTTP", "Type": "TCP", "URL": ["https://h"]}"#;
    assert_eq!(
        problems(secret("orders").json(json)),
        [
            "Type is set twice; remove one of them",
            "URL is a list or an object; a value is a text, a number or a boolean",
        ]
    );
}

#[test]
fn a_json_value_is_a_property_like_any_other_beside_the_key_type() {
    let secret = http("orders", "h").with("tokenService.body.claims", r#"{"a": 1}"#);
    let (_writer, reader) = loaded([secret]);
    assert_eq!(host(&reader, "orders"), "h");
}

#[test]
fn what_is_beside_the_json_is_warned_about() {
    let json = r#"{"destinationConfiguration": {"Type": "HTTP", "URL": "https://h"}, "User": "me"}"#;
    assert_eq!(
        warnings(
            secret("orders")
                .json(json)
                .with("Password", "x")
                .with("notes", "y")
        ),
        [
            "User is beside destinationConfiguration and is ignored; properties belong inside destinationConfiguration",
            "Password is a key beside the JSON with the properties and is ignored; put it into the JSON",
        ]
    );
}

#[test]
fn bytes_that_are_no_text_are_no_property() {
    let binary = [0xff, 0xfe];
    assert_eq!(
        problems(http("orders", "h").with_bytes("User", &binary)),
        ["User is not UTF-8 text"]
    );
    assert_eq!(
        warnings(http("orders", "h").with_bytes("old.p12", &binary)),
        ["old.p12 is neither text nor a key store that a property names, and is ignored"]
    );
}

#[test]
fn nothing_of_the_proxys_environment_can_be_had() {
    for (value, reference) in [("x${env:HOME}", "${env:"), ("${file:/etc/shadow}", "${file:")] {
        for property in ["Password", "URL.headers.X", "unknown"] {
            assert_eq!(
                problems(http("orders", "h").with(property, value)),
                [format!(
                    "{property} contains \"{reference}\", which only destinations from files may; write the value itself"
                )]
            );
        }
    }
    let (_writer, reader) = loaded([http("orders", "h").with("URL.headers.X", "$${env:a} ${x} $5")]);
    assert!(matches!(find(&reader, "orders"), Err(FindError::Invalid(_))));
    let (_writer, reader) = loaded([http("orders", "h").with("URL.headers.X", "${x} $5")]);
    assert_eq!(http_of(&found(&reader, "orders")).headers[0].1, "${x} $5");
}

#[test]
fn placeholders_of_exports_are_no_secrets() {
    let secret = http("orders", "h")
        .with("Authentication", "BasicAuthentication")
        .with("User", "me")
        .with(
            "Password",
            "<< Existing password/certificate removed on export >>",
        );
    assert_eq!(
        problems(secret),
        [
            "Password still has the placeholder that the cockpit writes in place of a secret; put the secret there"
        ]
    );
}

#[test]
fn loopback_targets_are_refused_as_documented() {
    let refused = "leads to the proxy's own loopback interface; write the host that runs the target system";
    for host in [
        "localhost",
        "127.0.0.1",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "LOCALHOST:8080",
    ] {
        let url = format!("http://{host}/path");
        let secret = secret("orders").with("Type", "HTTP").with("URL", &url);
        assert_eq!(problems(secret), [format!("URL {refused}")], "{host}");
    }
    let tcp = secret("db").with("Type", "TCP").with("Address", "[::1]:5432");
    assert_eq!(problems(tcp), [format!("Address {refused}")]);
    let token = http("orders", "h")
        .with("Authentication", "OAuth2ClientCredentials")
        .with("clientId", "c")
        .with("clientSecret", "s")
        .with("tokenServiceURL", "https://localhost/token");
    assert_eq!(problems(token), [format!("tokenServiceURL {refused}")]);
    // Whatever else leads there is refused by whoever connects.
    for host in ["localhost.example", "127.0.0.2"] {
        let (_writer, reader) = loaded([http("orders", host)]);
        assert_eq!(super::host(&reader, "orders"), host);
    }
}

#[test]
fn what_is_not_supported_yet_is_named() {
    let cases = [
        (
            "ProxyType",
            "onpremise",
            "ProxyType is \"OnPremise\", which is not supported yet; use Internet",
        ),
        (
            "ProxyType",
            "hunter2",
            "ProxyType is [hidden], which is unknown; use Internet",
        ),
        (
            "Type",
            "ldap",
            "Type is \"LDAP\", which is not supported yet; use a destination of type HTTP or TCP",
        ),
        (
            "KeyStore.Source",
            "ClientProvided",
            "KeyStore.Source is \"ClientProvided\", which is not supported yet; name a key store in KeyStoreLocation",
        ),
    ];
    for (property, value, problem) in cases {
        assert_eq!(problems(http("orders", "h").with(property, value)), [problem]);
    }
    let token = http("orders", "h")
        .with("Authentication", "OAuth2ClientCredentials")
        .with("clientId", "c")
        .with("tokenServiceURL", "https://{tenant}.h/token");
    assert_eq!(
        problems(token),
        [
            "tokenServiceURL contains {tenant}, but destinations from Secrets have no tenant; write the whole URL"
        ]
    );
}

#[test]
fn no_message_speaks_of_files() {
    let secret = http("orders", "h")
        .with("Authentication", "ClientCertificateAuthentication")
        .with("KeyStoreLocation", "store")
        .with("TrustStoreLocation", "nothing")
        .with("ProxyType", "OnPremise")
        .with("store", "neither");
    for problem in problems(secret) {
        let problem = problem.to_lowercase();
        assert!(
            !problem.contains("file") && !problem.contains("folder"),
            "{problem}"
        );
    }
}
