use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use super::test_service::{Loopback, TestService, client, json, token};
use super::*;
use crate::connect::TlsFailure;
use crate::connect::tls::Authorities;
use crate::connect::tls::test_server::{Authority, Demands, config};
use crate::resolve::destination::{HostnameVerifier, OAuth2Client, Scheme, TargetUrl, TlsPolicy};
use crate::secret::Secret;

fn destination(authentication: Authentication) -> HttpDestination {
    HttpDestination {
        url: TargetUrl {
            scheme: Scheme::Http,
            host: "target.test".to_owned(),
            port: 80,
            authority: HeaderValue::from_static("target.test"),
            path: String::new(),
            query: None,
        },
        authentication,
        headers: Vec::new(),
        queries: Secret::from(""),
        connect_timeout: Duration::from_secs(10),
        read_timeout: Duration::from_secs(10),
        tls: None,
    }
}

fn token_service() -> Arc<TokenService> {
    TokenService::new(Arc::new(Loopback), Authorities::default())
}

fn authenticator(authentication: Authentication) -> Authenticator {
    authenticator_of(&token_service(), authentication)
}

fn authenticator_of(tokens: &Arc<TokenService>, authentication: Authentication) -> Authenticator {
    let name = DestinationName::new_unchecked("d");
    Authenticator::new(&name, &destination(authentication), tokens).expect("usable")
}

fn client_credentials(client: OAuth2Client) -> Authenticator {
    authenticator(Authentication::OAuth2ClientCredentials(Arc::new(client)))
}

async fn header_of(authenticator: &Authenticator) -> Result<HeaderValue, Error> {
    let injection = authenticator.injection().await?;
    assert_eq!(injection.app_authorization, AppAuthorization::Remove);
    let (name, value) = injection.header.expect("a header");
    assert_eq!(name, header::AUTHORIZATION);
    assert!(value.is_sensitive());
    Ok(value)
}

fn invalid_client() -> http::Response<http_body_util::Full<bytes::Bytes>> {
    json(StatusCode::UNAUTHORIZED, r#"{"error":"invalid_client"}"#)
}

#[test]
fn types_without_a_header_let_the_one_of_the_application_pass() {
    for authentication in [
        Authentication::NoAuthentication,
        Authentication::ClientCertificate,
    ] {
        let injection = authenticator(authentication).ready().expect("at once");
        assert!(injection.header.is_none());
        assert_eq!(injection.app_authorization, AppAuthorization::Pass);
    }
}

#[test]
fn only_a_header_with_a_scheme_passes() {
    let passes = |value| AppAuthorization::Pass.passes(&HeaderValue::from_static(value));
    assert!(passes("Bearer abc") && passes("Basic dTpw") && passes("Digest username=\"x\", realm=\"y\""));
    assert!(!passes("eyJhbGciOi.e30.c2ln") && !passes("") && !passes("Bearer ") && !passes(" abc"));
    assert!(!AppAuthorization::Remove.passes(&HeaderValue::from_static("Bearer abc")));
}

#[test]
fn basic_credentials_are_there_at_once() {
    let basic = Authentication::Basic {
        user: "Aladdin".to_owned(),
        password: "open sesame".into(),
    };
    let injection = authenticator(basic).ready().expect("at once");
    let (name, value) = injection.header.clone().expect("a header");
    assert_eq!(name, header::AUTHORIZATION);
    assert_eq!(value, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    assert_eq!(injection.app_authorization, AppAuthorization::Remove);
    assert!(!format!("{injection:?}").contains("QWxh"));
}

#[tokio::test]
async fn client_credentials_go_into_the_body_by_default() {
    let service = TestService::start(|_, _| token("t")).await;
    let authenticator = client_credentials(OAuth2Client {
        client_id: "sb-app!b1|x".to_owned(),
        client_secret: Some("a+/:%=! b".into()),
        scope: Some("read write".to_owned()),
        body: vec![("resource".to_owned(), "urn:x&y".into())],
        headers: vec![(HeaderName::from_static("x-zone"), HeaderValue::from_static("7"))],
        queries: "tenant=a%20b".into(),
        ..service.client()
    });
    assert!(authenticator.ready().is_none());
    assert_eq!(header_of(&authenticator).await.expect("a token"), "Bearer t");
    assert!(authenticator.ready().is_some());
    let asked = &service.asked()[0];
    assert_eq!(asked.uri, "/oauth/token?tenant=a%20b");
    assert_eq!(
        asked.body,
        "grant_type=client_credentials&scope=read+write&client_id=sb-app%21b1%7Cx\
         &client_secret=a%2B%2F%3A%25%3D%21+b&resource=urn%3Ax%26y"
    );
    assert_eq!(asked.header("host"), Some(&*service.address.to_string()));
    assert_eq!(asked.header("accept"), Some("application/json"));
    assert_eq!(asked.header("x-zone"), Some("7"));
    assert_eq!(asked.header("authorization"), None);
}

#[tokio::test]
async fn client_credentials_in_the_header_are_form_encoded_first() {
    let service = TestService::start(|_, _| token("t")).await;
    let authenticator = client_credentials(OAuth2Client {
        client_id: "a:b".to_owned(),
        client_secret: Some("+/ %".into()),
        credentials_in_body: false,
        ..service.client()
    });
    header_of(&authenticator).await.expect("a token");
    let asked = &service.asked()[0];
    assert_eq!(asked.body, "grant_type=client_credentials");
    let expected = basic::header_value("a%3Ab", "%2B%2F+%25");
    assert_eq!(asked.headers.get("authorization"), Some(&expected));
}

#[tokio::test]
async fn a_service_that_knows_only_the_body_is_remembered() {
    let service = TestService::start(|asked, before| match asked.header("authorization") {
        Some(_) => invalid_client(),
        None => token(&format!("t{before}")),
    })
    .await;
    let client = OAuth2Client {
        credentials_in_body: false,
        ..service.client()
    };
    let authenticator = client_credentials(client);
    let first = authenticator.injection().await.expect("a token");
    assert_eq!(service.asked().len(), 2);
    authenticator.rejected(&first);
    assert_eq!(header_of(&authenticator).await.expect("a token"), "Bearer t2");
    assert_eq!(service.asked().len(), 3, "the header was not tried again");
}

#[tokio::test]
async fn a_wrong_secret_is_a_clear_failure() {
    let service = TestService::start(|_, _| invalid_client()).await;
    for (credentials_in_body, calls) in [(true, 1), (false, 3)] {
        let authenticator = client_credentials(OAuth2Client {
            credentials_in_body,
            ..service.client()
        });
        let error = header_of(&authenticator).await.expect_err("no token");
        assert_eq!(error.status(), Some(StatusCode::UNAUTHORIZED));
        assert_eq!(
            error.to_string(),
            "the token service answered 401, invalid_client"
        );
        assert_eq!(service.asked().len(), calls, "not repeated");
    }
}

#[tokio::test]
async fn the_user_of_the_token_service_replaces_the_header_of_the_client() {
    let service = TestService::start(|_, _| token("t")).await;
    for (credentials_in_body, body) in [
        (
            true,
            "grant_type=client_credentials&client_id=client&client_secret=secret",
        ),
        (false, "grant_type=client_credentials&client_id=client"),
    ] {
        let authenticator = client_credentials(OAuth2Client {
            token_service_user: Some(("user".to_owned(), "p%ss".into())),
            credentials_in_body,
            ..service.client()
        });
        header_of(&authenticator).await.expect("a token");
        let asked = service.asked().pop().expect("a call");
        assert_eq!(asked.body, body);
        assert_eq!(
            asked.headers.get("authorization"),
            Some(&basic::header_value("user", "p%ss"))
        );
    }
}

#[tokio::test]
async fn the_password_grant_sends_user_and_password() {
    let service = TestService::start(|_, _| token("t")).await;
    let authenticator = authenticator(Authentication::OAuth2Password {
        client: Arc::new(service.client()),
        user: "jo@x".to_owned(),
        password: "p&w".into(),
    });
    assert_eq!(header_of(&authenticator).await.expect("a token"), "Bearer t");
    assert_eq!(
        service.asked()[0].body,
        "grant_type=password&username=jo%40x&password=p%26w&client_id=client&client_secret=secret"
    );
}

#[tokio::test]
async fn configured_fields_replace_ours_instead_of_doubling_them() {
    let service = TestService::start(|_, _| token("t")).await;
    let body = vec![("client_id".to_owned(), "other".into())];
    header_of(&client_credentials(OAuth2Client {
        body,
        ..service.client()
    }))
    .await
    .expect("a token");
    let sent = &service.asked()[0].body;
    assert_eq!(
        sent,
        "grant_type=client_credentials&client_secret=secret&client_id=other"
    );
}

#[tokio::test]
async fn a_client_certificate_stands_for_the_secret() {
    let authority = Authority::new("ca");
    let demands = Demands {
        client_authority: Some(&authority),
        ..Demands::default()
    };
    let tls = config(&authority.issue(&["127.0.0.1"]), demands);
    let service = TestService::start_with(Some(tls), |_, _| token("t")).await;
    let with = |client_identity| OAuth2Client {
        client_secret: None,
        tls: Some(Arc::new(TlsPolicy {
            trust_all: false,
            trust_store: authority.store(),
            hostname_verifier: HostnameVerifier::Strict,
            client_identity,
        })),
        ..client(Scheme::Https, service.address)
    };
    let right = client_credentials(with(Some(authority.issue(&["client"]))));
    assert_eq!(header_of(&right).await.expect("a token"), "Bearer t");
    assert_eq!(
        service.asked()[0].body,
        "grant_type=client_credentials&client_id=client"
    );

    let missing = header_of(&client_credentials(with(None)))
        .await
        .expect_err("refused");
    let Error::TokenServiceUnreachable(cause) = &missing else {
        panic!("{missing:?}")
    };
    assert!(
        matches!(**cause, connect::Error::Tls(TlsFailure::ClientCertificate)),
        "{cause:?}"
    );
}

#[tokio::test]
async fn an_untrusted_token_service_gets_no_secret() {
    let tls = config(&Authority::new("ca").issue(&["127.0.0.1"]), Demands::default());
    let service = TestService::start_with(Some(tls), |_, _| token("t")).await;
    let authenticator = client_credentials(client(Scheme::Https, service.address));
    let error = header_of(&authenticator).await.expect_err("refused");
    let Error::TokenServiceUnreachable(cause) = &error else {
        panic!("{error:?}")
    };
    assert!(
        matches!(**cause, connect::Error::Tls(TlsFailure::CertificateNotTrusted)),
        "{cause:?}"
    );
    assert!(service.asked().is_empty());
}

#[tokio::test]
async fn extra_roots_vouch_for_token_services() {
    let authority = Authority::new("ca");
    let tls = config(&authority.issue(&["127.0.0.1"]), Demands::default());
    let service = TestService::start_with(Some(tls), |_, _| token("t")).await;
    let tokens = TokenService::new(Arc::new(Loopback), authority.store().into());
    let client = Arc::new(client(Scheme::Https, service.address));
    let destination = destination(Authentication::OAuth2ClientCredentials(client));
    let name = DestinationName::new_unchecked("d");
    let authenticator = Authenticator::new(&name, &destination, &tokens).expect("usable");
    header_of(&authenticator).await.expect("a token");
}

#[tokio::test]
async fn other_extra_roots_are_for_the_next_call() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let tls = config(&new.issue(&["127.0.0.1"]), Demands::default());
    let service = TestService::start_with(Some(tls), |_, _| token("t")).await;
    let authorities = Authorities::from(old.store());
    let tokens = TokenService::new(Arc::new(Loopback), authorities.clone());
    let client = Arc::new(client(Scheme::Https, service.address));
    let destination = destination(Authentication::OAuth2ClientCredentials(client));
    let name = DestinationName::new_unchecked("d");
    let authenticator = Authenticator::new(&name, &destination, &tokens).expect("usable");
    header_of(&authenticator).await.expect_err("not trusted");
    authorities.replace(new.store());
    tokio::time::timeout(Duration::from_secs(10), async {
        // A failure is remembered for a moment.
        while header_of(&authenticator).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("a token");
}

#[tokio::test]
async fn passing_failures_are_repeated_twice() {
    let service = TestService::start(|_, before| match before {
        0 => json(StatusCode::BAD_GATEWAY, ""),
        1 => json(StatusCode::OK, ""),
        _ => token("t"),
    })
    .await;
    assert_eq!(
        header_of(&client_credentials(service.client()))
            .await
            .expect("a token"),
        "Bearer t"
    );
    assert_eq!(service.asked().len(), 3);

    let service = TestService::start(|_, _| json(StatusCode::SERVICE_UNAVAILABLE, "")).await;
    let error = header_of(&client_credentials(service.client()))
        .await
        .expect_err("no token");
    assert_eq!(error.status(), Some(StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(service.asked().len(), 3);
}

#[tokio::test]
async fn an_empty_answer_ends_as_an_invalid_one() {
    let service = TestService::start(|_, _| json(StatusCode::OK, "")).await;
    let error = header_of(&client_credentials(service.client()))
        .await
        .expect_err("no token");
    assert!(
        matches!(error, Error::InvalidTokenResponse(InvalidToken::Empty)),
        "{error:?}"
    );
    assert_eq!(service.asked().len(), 3);
}

#[tokio::test]
async fn an_endless_answer_is_given_up() {
    let service = TestService::start(|_, _| json(StatusCode::OK, &" ".repeat(1024 * 1024 + 1))).await;
    let error = header_of(&client_credentials(service.client()))
        .await
        .expect_err("no token");
    assert!(
        matches!(error, Error::InvalidTokenResponse(InvalidToken::TooLarge)),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = TestService::start(|_, _| token("stolen")).await;
    let location = format!("http://{}/", elsewhere.address);
    let service = TestService::start(move |_, _| {
        let mut response = json(StatusCode::TEMPORARY_REDIRECT, "");
        response
            .headers_mut()
            .insert(header::LOCATION, location.parse().expect("a value"));
        response
    })
    .await;
    let error = header_of(&client_credentials(service.client()))
        .await
        .expect_err("no token");
    assert_eq!(error.status(), Some(StatusCode::TEMPORARY_REDIRECT));
    assert!(elsewhere.asked().is_empty());
}

#[tokio::test]
async fn a_service_that_is_down_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let error = header_of(&client_credentials(client(Scheme::Http, address)))
        .await
        .expect_err("no token");
    let Error::TokenServiceUnreachable(cause) = &error else {
        panic!("{error:?}")
    };
    assert!(matches!(**cause, connect::Error::Refused(_)), "{cause:?}");
}

#[tokio::test]
async fn a_service_that_hangs_up_is_no_valid_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let _ = tcp.read(&mut [0; 4096]).await;
        }
    });
    let error = header_of(&client_credentials(client(Scheme::Http, address)))
        .await
        .expect_err("no token");
    assert!(matches!(error, Error::TokenServiceProtocol), "{error:?}");
}

#[tokio::test]
async fn a_silent_service_ends_at_the_read_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let limit = Duration::from_millis(50);
    let client = OAuth2Client {
        read_timeout: limit,
        ..client(Scheme::Http, address)
    };
    let error = header_of(&client_credentials(client))
        .await
        .expect_err("no token");
    assert!(
        matches!(error, Error::TokenServiceTimedOut(of) if of == limit),
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_service_holds_up_its_own_tokens_only() {
    let tokens = token_service();
    let entry = |client| authenticator_of(&tokens, Authentication::OAuth2ClientCredentials(Arc::new(client)));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let silent = client(Scheme::Http, listener.local_addr().expect("an address"));
    let mut held = Vec::new();
    for number in 0..32 {
        let client = OAuth2Client {
            client_id: format!("client-{number}"),
            ..silent.clone()
        };
        let entry = entry(client);
        tokio::spawn(async move { entry.injection().await });
        held.push(listener.accept().await.expect("a call"));
    }
    let good = TestService::start(|_, _| token("t")).await;
    let token = header_of(&entry(good.client())).await.expect("a token");
    assert_eq!(token, "Bearer t");
    let impatient = OAuth2Client {
        connect_timeout: Duration::from_secs(1),
        read_timeout: Duration::from_secs(1),
        ..silent
    };
    let error = header_of(&entry(impatient)).await.expect_err("no token");
    assert!(matches!(error, Error::TokenServiceBusy(32)), "{error:?}");
}

#[tokio::test]
async fn a_thousand_first_requests_make_one_call() {
    let service = TestService::start(|_, _| token("t")).await;
    let authenticator = client_credentials(service.client());
    let waiting: Vec<_> = (0..1000)
        .map(|_| {
            let authenticator = authenticator.clone();
            tokio::spawn(async move { header_of(&authenticator).await.expect("a token") })
        })
        .collect();
    for waiter in waiting {
        assert_eq!(waiter.await.expect("no panic"), "Bearer t");
    }
    assert_eq!(service.asked().len(), 1);
}

#[tokio::test]
async fn equal_versions_of_a_destination_share_their_token_and_others_do_not() {
    let service = TestService::start(|_, before| token(&format!("t{before}"))).await;
    let tokens = token_service();
    let with = |name: &str, client: OAuth2Client| {
        let destination = destination(Authentication::OAuth2ClientCredentials(Arc::new(client)));
        Authenticator::new(&DestinationName::new_unchecked(name), &destination, &tokens).expect("usable")
    };
    let first = header_of(&with("d", service.client())).await.expect("a token");
    assert_eq!(
        header_of(&with("d", service.client())).await.expect("a token"),
        first
    );
    let rotated = OAuth2Client {
        client_secret: Some("new".into()),
        ..service.client()
    };
    assert_ne!(header_of(&with("d", rotated)).await.expect("a token"), first);
    assert_ne!(
        header_of(&with("e", service.client())).await.expect("a token"),
        first
    );
}

#[tokio::test]
async fn a_token_that_the_target_refuses_is_fetched_anew() {
    let service = TestService::start(|_, before| token(&format!("t{before}"))).await;
    let authenticator = client_credentials(service.client());
    let used = authenticator.injection().await.expect("a token");
    authenticator.rejected(&used);
    assert_eq!(header_of(&authenticator).await.expect("a token"), "Bearer t1");
    authenticator.rejected(&used);
    assert!(authenticator.ready().is_some(), "it was another one");
}

#[tokio::test]
async fn calls_and_what_the_cache_saves_are_counted() {
    let service = TestService::start(
        |_, before| {
            if before == 0 { invalid_client() } else { token("t") }
        },
    )
    .await;
    let tokens = token_service();
    let client = OAuth2Client {
        credentials_in_body: false,
        ..service.client()
    };
    let destination = destination(Authentication::OAuth2ClientCredentials(Arc::new(client)));
    let name = DestinationName::new_unchecked("d");
    let authenticator = Authenticator::new(&name, &destination, &tokens).expect("usable");
    for _ in 0..3 {
        header_of(&authenticator).await.expect("a token");
    }
    let mut metrics = crate::telemetry::registry::Metrics::new();
    tokens.register(metrics.root());
    let text = metrics
        .encode(crate::telemetry::registry::Exposition::OpenMetrics)
        .expect("encodes");
    for line in [
        r#"tp_token_requests_total{result="ok"} 1"#,
        r#"tp_token_requests_total{result="refused"} 1"#,
        r#"tp_cache_hits_total{cache="token"} 2"#,
        r#"tp_cache_misses_total{cache="token"} 1"#,
        r#"tp_cache_renewals_total{cache="token"} 0"#,
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line} in {text}");
    }
}
