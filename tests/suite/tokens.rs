//! Destinations with OAuth 2.0 through the whole proxy. The token service is `oidc-provider`, which nobody here wrote;
//! it is the target, too: it answers 200 to those whose token is good now, else 401.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::harness::certs::Authority;
use crate::harness::node::privileged;
use crate::harness::proxy::Proxy;
use crate::harness::{binary, tcp};
use crate::oauth::server::{OidcServer, Tls};

const BODY_SECRET: &str = "s3cr3t-body+/%=&!|";
const HEADER_SECRET: &str = "s3cr3t-header+/%=: !|";

fn destination(server: &OidcServer, client: &str, secret: &str) -> Value {
    json!({
        "Type": "HTTP",
        "URL": format!("http://{}/check", server.address()),
        "ProxyType": "Internet",
        "Authentication": "OAuth2ClientCredentials",
        "tokenServiceURL": server.token_url(),
        "clientId": client,
        "clientSecret": secret,
    })
}

fn in_body(server: &OidcServer) -> Value {
    destination(server, "body-client", BODY_SECRET)
}

fn status_of(proxy: &Proxy) -> String {
    proxy.output_of(&[
        "curl",
        "-sS",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "http://my-dest/",
    ])
}

/// Runs `tests/clients/load.py` behind the proxy; gives how often which status was seen.
fn load(proxy: &Proxy, connections: usize, seconds: usize) -> Value {
    let script = binary::tests_folder().join("clients/load.py");
    let (script, connections) = (script.display().to_string(), connections.to_string());
    let output = proxy.output_of(&["python3", &script, "my-dest", &connections, &seconds.to_string()]);
    serde_json::from_str(&output).expect("it prints JSON")
}

#[tokio::test]
async fn a_secret_in_the_body_lets_curl_in() {
    if !privileged() {
        return;
    }
    let server = OidcServer::start(60, None).await;
    let proxy = Proxy::for_test("tokens-body").destination("my-dest", in_body(&server));
    assert_eq!(status_of(&proxy), "200");
}

#[tokio::test]
async fn a_secret_in_the_header_lets_curl_in() {
    if !privileged() {
        return;
    }
    let server = OidcServer::start(60, None).await;
    let mut properties = destination(&server, "header:client", HEADER_SECRET);
    properties["tokenService.addClientCredentialsInBody"] = "false".into();
    let proxy = Proxy::for_test("tokens-header").destination("my-dest", properties);
    assert_eq!(status_of(&proxy), "200");
}

#[tokio::test]
async fn a_client_certificate_lets_curl_in() {
    if !privileged() {
        return;
    }
    let authority = Authority::new();
    let identity = authority.server(&["127.0.0.1"]);
    let tls = Tls {
        identity: &identity,
        authority: &authority,
    };
    let server = OidcServer::start(60, Some(tls)).await;
    let client = authority.client("mtls-client");
    let proxy = Proxy::for_test("tokens-mtls")
        .trusting(&authority)
        .file("client.pem", client.key_pem + &client.certificate_pem)
        .destination(
            "my-dest",
            json!({
                "Type": "HTTP",
                "URL": format!("http://{}/check", server.address()),
                "ProxyType": "Internet",
                "Authentication": "OAuth2ClientCredentials",
                "tokenServiceURL": server.tls_token_url(),
                "clientId": "mtls-client",
                "tokenService.KeyStoreLocation": "client.pem",
            }),
        );
    let authorities = proxy.folder().join("ca.crt").display().to_string();
    let proxy = proxy.option("--additional-ca").option(authorities);
    assert_eq!(status_of(&proxy), "200");
}

#[tokio::test]
async fn a_thousand_first_requests_at_once_make_one_token_call() {
    if !privileged() {
        return;
    }
    let server = OidcServer::start(60, None).await;
    let proxy = Proxy::for_test("tokens-thousand").destination("my-dest", in_body(&server));
    assert_eq!(load(&proxy, 1000, 0), json!({ "200": 1000 }));
    assert_eq!(server.calls().await, 1);
}

#[tokio::test]
async fn tokens_that_live_for_four_seconds_give_no_401_under_load() {
    if !privileged() {
        return;
    }
    let server = OidcServer::start(4, None).await;
    let proxy = Proxy::for_test("tokens-short")
        .quiet()
        .destination("my-dest", in_body(&server));
    let statuses = load(&proxy, 8, 9);
    let statuses = statuses.as_object().expect("statuses");
    assert_eq!(statuses.keys().collect::<Vec<_>>(), ["200"], "{statuses:?}");
    assert!(
        statuses["200"].as_u64().is_some_and(|count| count > 100),
        "{statuses:?}"
    );
    let calls = server.calls().await;
    assert!((3..=6).contains(&calls), "{calls} token calls in 9 s");
}

/// A target that writes down the heads of its requests.
fn recording() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&heads);
    let address = tcp::listen(move |mut connection| {
        while let Some(head) = tcp::read_head(&mut connection) {
            log.lock().unwrap().push(head);
            connection
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .ok();
        }
    });
    (address, heads)
}

#[tokio::test]
async fn the_authorization_of_the_application_never_reaches_the_target() {
    if !privileged() {
        return;
    }
    let server = OidcServer::start(60, None).await;
    let (target, heads) = recording();
    let with_url = |mut properties: Value| {
        properties["URL"] = format!("http://{target}").into();
        properties
    };
    let basic = json!({
        "Type": "HTTP", "ProxyType": "Internet", "Authentication": "BasicAuthentication",
        "User": "ada", "Password": "s3cr3t-basic",
    });
    let proxy = Proxy::for_test("tokens-own-authorization")
        .destination("my-oauth", with_url(in_body(&server)))
        .destination("my-basic", with_url(basic));
    let own = "Authorization: Bearer s3cr3t-own";
    let output = proxy.output_of(&["curl", "-sS", "-H", own, "http://my-oauth/", "http://my-basic/"]);
    assert_eq!(output, "okok");
    let heads = heads.lock().unwrap();
    let authorizations: Vec<Vec<&str>> = heads
        .iter()
        .map(|head| {
            head.lines()
                .filter_map(|line| {
                    let (name, value) = line.split_once(": ")?;
                    name.eq_ignore_ascii_case("authorization").then_some(value)
                })
                .collect()
        })
        .collect();
    assert_eq!(authorizations.len(), 2);
    assert_eq!(authorizations[0].len(), 1);
    assert!(authorizations[0][0].starts_with("Bearer ") && !authorizations[0][0].contains("own"));
    // base64 of `ada:s3cr3t-basic`
    assert_eq!(authorizations[1], ["Basic YWRhOnMzY3IzdC1iYXNpYw=="]);
}

/// Head and body of what curl gets.
fn answer(proxy: &Proxy) -> (String, Value) {
    let answer = proxy.output_of(&["curl", "-sSi", "http://my-dest/"]);
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (
        head.to_ascii_lowercase(),
        serde_json::from_str(body).expect("JSON"),
    )
}

#[tokio::test]
async fn without_its_token_service_a_destination_gives_a_clear_error_and_the_target_sees_nothing() {
    if !privileged() {
        return;
    }
    let server = OidcServer::start(60, None).await;
    let (target, heads) = recording();
    let mut properties = in_body(&server);
    drop(server);
    properties["URL"] = format!("http://{target}").into();
    let proxy = Proxy::for_test("tokens-down").destination("my-dest", properties);
    let (head, body) = answer(&proxy);
    assert!(head.starts_with("http/1.1 502 "), "{head}");
    assert!(head.contains("\r\nx-error-origin: transparent proxy"), "{head}");
    assert_eq!(
        body["error"]["message"],
        "The token service of destination 'my-dest' is currently not available. Retry the request later."
    );
    assert!(heads.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_refused_secret_is_told_with_the_status_of_the_token_service() {
    if !privileged() {
        return;
    }
    let server = OidcServer::start(60, None).await;
    let properties = destination(&server, "body-client", "s3cr3t-wrong");
    let proxy = Proxy::for_test("tokens-refused").destination("my-dest", properties);
    let (head, body) = answer(&proxy);
    assert!(head.starts_with("http/1.1 502 "), "{head}");
    for name in ["x-internal-error-code", "x-error-internal-code"] {
        assert!(head.contains(&format!("\r\n{name}: 401")), "{head}");
    }
    assert_eq!(body["error"]["internalErrorCode"], 401);
    let message = body["error"]["message"].as_str().expect("a message");
    assert!(
        message.starts_with("Invalid OAuth configuration in destination 'my-dest'"),
        "{message}"
    );
}
