//! Tokens from `oidc-provider`, an OAuth 2.0 server that nobody here wrote.

pub mod server;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use tokio::time::Instant;
use transparent_proxy::connect::direct::{self, Direct};
use transparent_proxy::connect::tls::Authorities;
use transparent_proxy::credentials::{Authenticator, Error, TokenService};
use transparent_proxy::resolve::destination::{KeyStores, Protocol, Source, StoreError, interpret};
use transparent_proxy::resolve::properties::Properties;

use crate::harness::certs::Authority;
use server::{Check, OidcServer, Tls};

/// Key stores by name.
#[derive(Default)]
struct Stores(HashMap<&'static str, String>);

impl KeyStores for Stores {
    fn read(&self, location: &str) -> Result<Vec<u8>, StoreError> {
        let store = self
            .0
            .get(location)
            .ok_or_else(|| StoreError::NotFound(location.to_owned()))?;
        Ok(store.clone().into_bytes())
    }
}

/// The authenticator of an `OAuth2ClientCredentials` destination with these properties.
fn authenticator(more: &[(&str, &str)], stores: &Stores) -> Authenticator {
    let mut properties = Properties::default();
    let common = [
        ("Name", "target"),
        ("Type", "HTTP"),
        ("URL", "https://target.test"),
        ("ProxyType", "Internet"),
        ("Authentication", "OAuth2ClientCredentials"),
    ];
    for (name, value) in common.iter().chain(more) {
        properties.insert(*name, *value);
    }
    let interpretation = interpret(&properties, stores, Source::Files);
    let destination = interpretation.destination.expect("a valid destination");
    let Protocol::Http(http) = &destination.protocol else {
        panic!("it is HTTP")
    };
    let dialer = Arc::new(Direct::new(direct::Config::default()));
    let tokens = TokenService::new(dialer, Authorities::default());
    Authenticator::new(&destination.name, http, &tokens).expect("a usable token service")
}

fn with_secret(server: &OidcServer, client: &str, secret: &str, more: &[(&str, &str)]) -> Authenticator {
    let url = server.token_url();
    let mut properties = vec![
        ("tokenServiceURL", &*url),
        ("clientId", client),
        ("clientSecret", secret),
    ];
    properties.extend_from_slice(more);
    authenticator(&properties, &Stores::default())
}

fn in_body(server: &OidcServer, more: &[(&str, &str)]) -> Authenticator {
    with_secret(server, "body-client", "s3cr3t-body+/%=&!|", more)
}

async fn header_of(authenticator: &Authenticator) -> Result<HeaderValue, Error> {
    Ok(authenticator.injection().await?.header.expect("a token header").1)
}

async fn assert_accepted(server: &OidcServer, authenticator: &Authenticator) {
    let header = header_of(authenticator).await.expect("a token");
    assert_eq!(Check::connect(server).await.send(header).await, StatusCode::OK);
}

#[tokio::test]
async fn a_secret_in_the_body_buys_a_token_that_the_server_accepts() {
    let server = OidcServer::start(60, None).await;
    assert_accepted(&server, &in_body(&server, &[])).await;
}

#[tokio::test]
async fn a_secret_in_the_header_buys_a_token_that_the_server_accepts() {
    let server = OidcServer::start(60, None).await;
    let in_header = [("tokenService.addClientCredentialsInBody", "false")];
    let authenticator = with_secret(&server, "header:client", "s3cr3t-header+/%=: !|", &in_header);
    assert_accepted(&server, &authenticator).await;
}

#[tokio::test]
async fn a_client_that_may_only_use_the_body_gets_its_token_after_the_header_was_refused() {
    let server = OidcServer::start(60, None).await;
    let in_header = [("tokenService.addClientCredentialsInBody", "false")];
    assert_accepted(&server, &in_body(&server, &in_header)).await;
}

#[tokio::test]
async fn a_client_certificate_buys_a_token_that_the_server_accepts() {
    let authority = Authority::new();
    let server = authority.server(&["127.0.0.1"]);
    let tls = Tls {
        identity: &server,
        authority: &authority,
    };
    let server = OidcServer::start(60, Some(tls)).await;
    let client = authority.client("mtls-client");
    let stores = Stores(HashMap::from([
        ("trust.pem", authority.certificate_pem.clone()),
        ("client.pem", client.key_pem + &client.certificate_pem),
    ]));
    let url = server.tls_token_url();
    let properties = [
        ("tokenServiceURL", &*url),
        ("clientId", "mtls-client"),
        ("tokenService.KeyStoreLocation", "client.pem"),
        ("TrustStoreLocation", "trust.pem"),
    ];
    assert_accepted(&server, &authenticator(&properties, &stores)).await;
}

#[tokio::test]
async fn scope_and_further_fields_reach_the_server() {
    let server = OidcServer::start(60, None).await;
    let more = [
        ("scope", "read"),
        ("tokenService.body.resource", "urn:resource:test"),
    ];
    let header = header_of(&in_body(&server, &more)).await.expect("a token");
    let token = header
        .to_str()
        .expect("ASCII")
        .strip_prefix("Bearer ")
        .expect("a bearer token");
    assert_eq!(token.split('.').count(), 3, "tokens for that resource are JWTs");
}

#[tokio::test]
async fn a_wrong_secret_is_refused_by_name() {
    let server = OidcServer::start(60, None).await;
    let wrong = with_secret(&server, "body-client", "wrong", &[]);
    let error = header_of(&wrong).await.expect_err("refused");
    assert_eq!(error.status(), Some(StatusCode::UNAUTHORIZED));
    assert!(error.to_string().contains("invalid_client"), "{error}");
}

#[tokio::test]
async fn a_thousand_first_requests_make_one_token_call() {
    let server = OidcServer::start(60, None).await;
    let authenticator = in_body(&server, &[]);
    let waiting: Vec<_> = (0..1000)
        .map(|_| {
            let authenticator = authenticator.clone();
            tokio::spawn(async move { header_of(&authenticator).await.expect("a token") })
        })
        .collect();
    for waiter in waiting {
        waiter.await.expect("no panic");
    }
    assert_eq!(server.calls().await, 1);
}

/// A tenth of their life is left when they are given out, for the way to the target. On a machine that
/// needs longer than that for one request nothing is promised.
#[tokio::test]
async fn tokens_of_ten_seconds_give_no_401_under_load() {
    const LIFE: u32 = 10;
    const LEFT: Duration = Duration::from_secs(1);
    // Four fifths of what is left of the life in whole seconds.
    const RENEWED_AFTER: Duration = Duration::from_secs(7);
    let server = OidcServer::start(LIFE, None).await;
    let authenticator = in_body(&server, &[]);
    let (begin, done) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let load = (0..4).map(|_| {
        let (authenticator, address, done) = (authenticator.clone(), server.address(), Arc::clone(&done));
        tokio::spawn(async move {
            let mut check = Check::connect_to(address).await;
            let mut requests = 0;
            while !done.load(Ordering::Relaxed) {
                let begin = Instant::now();
                let injection = match authenticator.ready() {
                    Some(injection) => injection,
                    None => authenticator.injection().await.expect("a token"),
                };
                let (_, header) = injection.header.expect("a header");
                let status = check.send(header).await;
                assert!(
                    status == StatusCode::OK || begin.elapsed() > LEFT,
                    "{status} after {requests} requests"
                );
                requests += 1;
            }
            requests
        })
    });
    let load: Vec<_> = load.collect();
    let mut calls: u64 = 0;
    while calls < 3 {
        assert!(begin.elapsed() < Duration::from_mins(2), "{calls} token calls");
        tokio::time::sleep(Duration::from_millis(100)).await;
        calls = server.calls().await.try_into().expect("not that many");
    }
    let took = begin.elapsed().as_secs();
    assert!(
        took / RENEWED_AFTER.as_secs() + 1 >= calls,
        "{calls} token calls in {took} s"
    );
    done.store(true, Ordering::Relaxed);
    for requests in load {
        assert!(requests.await.expect("no 401") > 10);
    }
}
