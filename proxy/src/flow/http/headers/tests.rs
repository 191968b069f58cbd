use http::header::ACCEPT;

use super::*;
use crate::flow::http::tests::harness::{http_destination, injection};
use crate::resolve::destination::Authentication;
use crate::secret::Secret;

const ID: HeaderValue = HeaderValue::from_static("id");

fn fields(lines: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").expect("name: value");
        headers.append(
            HeaderName::try_from(name).unwrap(),
            HeaderValue::try_from(value).unwrap(),
        );
    }
    headers
}

fn lines(headers: &HeaderMap) -> Vec<String> {
    headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect()
}

fn pass() -> Injection {
    injection(Authentication::NoAuthentication)
}

fn basic() -> Injection {
    injection(Authentication::Basic {
        user: "user".to_owned(),
        password: Secret::from("pencil"),
    })
}

const INJECTED: &str = "authorization: Basic dXNlcjpwZW5jaWw=";

const PLAIN: Kind<'static> = Kind {
    unknown_length: false,
    upgrade: None,
};

fn sent_with(added: &[&str], injection: &Injection, kind: Kind<'_>, asked: &[&str]) -> Vec<String> {
    let mut destination = http_destination("target", 80);
    destination.url.authority = HeaderValue::from_static("target");
    for line in added {
        let (name, value) = line.split_once(": ").expect("name: value");
        destination.headers.push((
            HeaderName::try_from(name).unwrap(),
            HeaderValue::try_from(value).unwrap(),
        ));
    }
    let mut sent = lines(&Rules::new(&destination).request(fields(asked), injection, &ID, kind));
    sent.retain(|line| line != "host: target" && line != "x-request-id: id");
    sent
}

fn sent(asked: &[&str]) -> Vec<String> {
    sent_with(&[], &pass(), PLAIN, asked)
}

#[test]
fn host_is_the_authority_of_the_url_and_the_request_id_is_added() {
    let rules = Rules::new(&http_destination("target", 81));
    let headers = rules.request(fields(&["host: app", "accept: a"]), &pass(), &ID, PLAIN);
    assert_eq!(
        lines(&headers),
        ["host: target:81", "accept: a", "x-request-id: id"]
    );
}

#[test]
fn hop_by_hop_fields_and_those_named_in_connection_are_removed() {
    let asked = [
        "connection: keep-alive, X-Mine",
        "keep-alive: timeout=5",
        "proxy-connection: keep-alive",
        "transfer-encoding: chunked",
        "te: gzip",
        "upgrade: h2c",
        "trailer: x",
        "x-mine: 1",
        "x-other: 2",
    ];
    assert_eq!(sent(&asked), ["x-other: 2"]);
}

#[test]
fn trailers_stay_possible() {
    assert_eq!(sent(&["te: gzip, Trailers"]), ["te: trailers"]);
    let kind = Kind {
        unknown_length: true,
        upgrade: None,
    };
    assert_eq!(
        sent_with(&[], &pass(), kind, &["trailer: x-sum"]),
        ["trailer: x-sum"]
    );
}

#[test]
fn connection_cannot_name_away_what_the_proxy_injects() {
    let asked = [
        "connection: authorization, host, x-request-id, x-added",
        "authorization: Basic app",
    ];
    let sent = sent_with(&["x-added: 1"], &basic(), PLAIN, &asked);
    assert_eq!(sent, ["x-added: 1", INJECTED]);
}

#[test]
fn proxy_fields_are_removed() {
    assert!(
        sent(&[
            "proxy-authorization: Basic x",
            "proxy-authenticate: x",
            "proxy-mine: x"
        ])
        .is_empty()
    );
}

#[test]
fn control_fields_are_removed() {
    let asked = [
        "x-destination-name: a",
        "x-destination-level: a",
        "x-fragment-name: a",
        "x-fragment-level: a",
        "x-fragment-optional: a",
        "x-tenant-id: a",
        "x-tenant-subdomain: a",
        "x-token-service-tenant: a",
        "x-client-assertion: a",
        "x-client-assertion-type: a",
        "x-client-assertion-destination-name: a",
        "x-subject-token-type: a",
        "x-actor-token: a",
        "x-actor-token-type: a",
        "x-redirect-uri: a",
        "x-code-verifier: a",
        "x-chain-name: a",
        "x-chain-var-one: a",
        "connectivity-proxy-authorization: Bearer a",
    ];
    assert!(sent(&asked).is_empty());
}

#[test]
fn an_application_cannot_forge_an_identity() {
    let asked = [
        "sap-connectivity-authentication: a",
        "sap-connectivity-technical-authentication: a",
        "sap-cp-connectivity-service-token: a",
        "sap-connectivity-scc-location_id: a",
        "sap-client: 100",
    ];
    assert_eq!(sent(&asked), ["sap-client: 100"]);
}

#[test]
fn authorization_passes_only_with_a_scheme_and_only_where_the_type_lets_it() {
    assert_eq!(sent(&["authorization: Basic abc"]), ["authorization: Basic abc"]);
    assert!(sent(&["authorization: eyJhbGciOi.raw.jwt"]).is_empty());
    assert_eq!(
        sent_with(&[], &basic(), PLAIN, &["authorization: Basic abc"]),
        [INJECTED]
    );
}

#[test]
fn cookies_forwarding_fields_and_unknown_fields_pass_unchanged_in_order_and_number() {
    let asked = [
        "cookie: a=b",
        "forwarded: for=1",
        "x-forwarded-for: 1",
        "via: 1.1 x",
        "x-unknown: 1",
        "x-unknown: 2",
        "expect: 100-continue",
        "content-length: 4",
        "traceparent: 00-1-2-01",
    ];
    assert_eq!(sent(&asked), asked);
    let mut mixed = asked.to_vec();
    mixed.insert(0, "connection: keep-alive");
    assert_eq!(sent(&mixed), asked);
}

#[test]
fn an_upgrade_is_asked_for_again() {
    let websocket = HeaderValue::from_static("websocket");
    let kind = Kind {
        unknown_length: false,
        upgrade: Some(&websocket),
    };
    let asked = [
        "connection: keep-alive, Upgrade",
        "upgrade: websocket",
        "sec-websocket-key: k",
    ];
    assert_eq!(
        sent_with(&[], &pass(), kind, &asked),
        [
            "sec-websocket-key: k",
            "connection: Upgrade",
            "upgrade: websocket"
        ]
    );
}

#[test]
fn configured_fields_stand_beside_those_of_the_application() {
    let sent = sent_with(&["x-a: configured"], &pass(), PLAIN, &["x-a: app"]);
    assert_eq!(sent, ["x-a: app", "x-a: configured"]);
}

#[test]
fn configured_fields_that_may_occur_once_follow_their_own_rules() {
    let once = [
        "content-type: c",
        "user-agent: c",
        "referer: c",
        "from: c",
        "range: c",
        "if-modified-since: c",
    ];
    for line in once {
        assert_eq!(sent_with(&[line], &pass(), PLAIN, &[]), [line]);
        let app = line.replace(": c", ": app");
        assert_eq!(sent_with(&[line], &pass(), PLAIN, &[&app]), [app.as_str()]);
    }
    assert_eq!(
        sent_with(&["cookie: b=2"], &pass(), PLAIN, &["cookie: a=1"]),
        ["cookie: a=1; b=2"]
    );
    let configured = "authorization: Basic configured";
    assert_eq!(
        sent_with(&[configured], &pass(), PLAIN, &["authorization: Basic app"]),
        [configured]
    );
    assert_eq!(sent_with(&[configured], &basic(), PLAIN, &[]), [INJECTED]);
}

#[test]
fn a_configured_host_replaces_the_authority() {
    let mut destination = http_destination("target", 80);
    destination
        .headers
        .push((HOST, HeaderValue::from_static("virtual")));
    let headers = Rules::new(&destination).request(HeaderMap::new(), &pass(), &ID, PLAIN);
    assert_eq!(headers[HOST], "virtual");
}

#[test]
fn configured_fields_cannot_touch_the_framing() {
    let never = [
        "connection: close",
        "transfer-encoding: chunked",
        "content-length: 1",
        "te: gzip",
        "proxy-authorization: x",
        "sap-connectivity-authentication: x",
    ];
    assert!(sent_with(&never, &pass(), PLAIN, &[]).is_empty());
}

#[test]
fn responses_lose_hop_by_hop_and_error_fields_and_get_an_id() {
    let target = fields(&[
        "connection: close, x-hop",
        "x-hop: 1",
        "keep-alive: timeout=5",
        "transfer-encoding: chunked",
        "proxy-authenticate: Basic",
        "x-error-message: mine",
        "x-error-origin: mine",
        "x-internal-error-code: 1",
        "x-error-internal-code: 1",
        "x-proxy-server: mine",
        "set-cookie: a",
        "set-cookie: b",
        "www-authenticate: Basic",
        "location: http://elsewhere/",
    ]);
    assert_eq!(
        lines(&response(target, &ID, false)),
        [
            "set-cookie: a",
            "set-cookie: b",
            "www-authenticate: Basic",
            "location: http://elsewhere/",
            "x-request-id: id"
        ]
    );
}

#[test]
fn the_targets_own_request_id_is_kept() {
    let headers = response(fields(&["x-request-id: target"]), &ID, false);
    assert_eq!(lines(&headers), ["x-request-id: target"]);
}

#[test]
fn fields_that_decide_something_may_occur_only_once() {
    let repeated = fields(&[
        "authorization: a b",
        "x-tenant-id: 1",
        "authorization: a b",
        "x-tenant-id: 1",
    ]);
    let Err(Exchange::RepeatedHeaders(names)) = refuse_repeated(&repeated) else {
        panic!("must be refused")
    };
    assert_eq!(names, ["x-tenant-id", "authorization"]);
    assert!(refuse_repeated(&fields(&["accept: 1", "accept: 2"])).is_ok());
    assert!(refuse_repeated(&HeaderMap::from_iter([(ACCEPT, ID)])).is_ok());
}

fn single_names() -> impl Iterator<Item = String> {
    SINGLE.iter().map(|name| match name.strip_suffix('-') {
        Some(prefix) => format!("{prefix}-a"),
        None => (*name).to_owned(),
    })
}

#[test]
fn repeated_fields_are_named_in_the_order_of_the_documentation() {
    let mut asked: Vec<String> = single_names().map(|name| format!("{name}: 1")).collect();
    for _ in 0..2 {
        let twice: Vec<&str> = asked.iter().chain(&asked).map(String::as_str).collect();
        let Err(Exchange::RepeatedHeaders(names)) = refuse_repeated(&fields(&twice)) else {
            panic!("must be refused")
        };
        let places: Vec<_> = names.iter().map(|name| place(name.as_str()).unwrap()).collect();
        assert!(places.into_iter().eq(0..SINGLE.len()), "{asked:?}");
        asked.reverse();
    }
}

#[test]
fn what_speaks_to_the_proxy_goes_no_further() {
    for name in single_names().filter(|name| name != "authorization") {
        let name = HeaderName::try_from(name).unwrap();
        assert!(is_dropped_from_requests(&name), "{name}");
    }
}

#[test]
fn a_server_announces_its_idle_limit() {
    let seconds = |value| server_idle(&fields(&[value])).map(|limit| limit.as_secs());
    assert_eq!(seconds("keep-alive: timeout=5, max=100"), Some(5));
    assert_eq!(seconds("keep-alive: max=100, timeout=7"), Some(7));
    assert_eq!(seconds("keep-alive: nonsense"), None);
}
