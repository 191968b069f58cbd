//! What good files become.

use std::time::Duration;

use super::super::{FileSource, State};
use super::*;
use crate::resolve::destination::{
    Authentication, Destination, HostnameVerifier, HttpDestination, Protocol, SocketOptions,
};

fn loaded(text: &str) -> (Arc<Destination>, Vec<String>) {
    let folder = Folder::new(&[("a.yaml", text)]);
    let snapshot = folder.load(None);
    let [loaded] = &snapshot.destinations[..] else {
        panic!("{snapshot:?}");
    };
    let State::Ok(destination) = &loaded.state else {
        panic!("{loaded:?}");
    };
    let warnings = destination.warnings.iter().map(ToString::to_string);
    (destination.clone(), warnings.collect())
}

fn http_of(destination: &Destination) -> &HttpDestination {
    match &destination.protocol {
        Protocol::Http(http) => http,
        Protocol::Tcp(_) => panic!("{destination:?}"),
    }
}

#[test]
fn defaults_are_the_documented_ones() {
    let (destination, warnings) = loaded(&http("a", "a"));
    let http = http_of(&destination);
    assert_eq!(warnings, [""; 0]);
    assert_eq!(destination.service_port, 80);
    assert_eq!(http.authentication, Authentication::NoAuthentication);
    assert_eq!(http.connect_timeout, Duration::from_secs(5));
    assert_eq!(http.read_timeout, Duration::from_secs(30));
    let tls = http.tls.as_ref().unwrap();
    assert!(!tls.trust_all);
    assert_eq!(tls.hostname_verifier, HostnameVerifier::Strict);
    let (destination, _) = loaded("Name: b\nType: tcp\nAddress: b:1\nservice.port: 5432\n");
    assert_eq!(destination.service_port, 5432);
    let Protocol::Tcp(tcp) = &destination.protocol else {
        panic!("{destination:?}");
    };
    assert_eq!(tcp.socket, SocketOptions::default());
}

#[test]
fn values_out_of_range_become_the_default_with_a_warning() {
    let text = http("a", "a") + "URL.connectionTimeoutInSeconds: 301\nURL.socketReadTimeoutInSeconds: soon\n";
    let (destination, warnings) = loaded(&text);
    let http = http_of(&destination);
    assert_eq!(http.connect_timeout, Duration::from_secs(5));
    assert_eq!(http.read_timeout, Duration::from_secs(30));
    let expected = [
        "URL.connectionTimeoutInSeconds is \"301\", which is not a whole number from 1 to 300; the default 5 is used",
        "URL.socketReadTimeoutInSeconds is \"soon\", which is not a whole number from 1 to 43200; the default 30 is used",
    ];
    assert_eq!(warnings, expected);
}

#[test]
fn headers_and_queries_that_cannot_be_sent_are_left_out_with_a_warning() {
    let text = http("a", "a")
        + "URL.headers.X-Key: secret-MARKER\nURL.headers.Connection: close\nURL.headers.Proxy-Authorization: MARKER\nURL.headers.SAP-Connectivity-Authentication: MARKER\nURL.headers.Content-Length: 1\nURL.headers.bad name: MARKER\nURL.headers.X-Lines: \"MARKER\\r\\nX: y\"\nURL.headers.Host: other\nURL.headers.HOST: another\nURL.queries.z: 3\nURL.queries.y: a b/ü\n\"URL.queries.\": x\n";
    let (destination, warnings) = loaded(&text);
    let http = http_of(&destination);
    let names: Vec<&str> = http.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["host", "x-key"]);
    assert!(http.headers.iter().all(|(_, value)| value.is_sensitive()));
    assert_eq!(http.queries.expose(), "y=a%20b%2F%C3%BC&z=3");
    assert!(!format!("{destination:?}").contains(MARKER));
    insta::assert_snapshot!(warnings.join("\n"));
}

#[test]
fn an_oauth2_client_has_all_its_settings() {
    let text = http("a", "a")
        + "Authentication: oauth2password\nUser: u\nPassword: p\nclientId: c\nclientSecret: s\ntokenServiceURL: https://t/token\nscope: one two\ntokenService.addClientCredentialsInBody: FALSE\ntokenService.body.resource: r\ntokenService.body.grant_type: MARKER\ntokenServiceURL.headers.X-A: b\ntokenServiceURL.queries.q: w\ntokenServiceURL.ConnectionTimeoutInSeconds: 0\ntokenServiceURL.SocketReadTimeoutInSeconds: 600\n";
    let (destination, warnings) = loaded(&text);
    let Authentication::OAuth2Password { client, user, .. } = &http_of(&destination).authentication else {
        panic!("{destination:?}");
    };
    assert_eq!(user, "u");
    assert_eq!(client.scope.as_deref(), Some("one two"));
    assert!(!client.credentials_in_body);
    assert_eq!(client.body.len(), 1);
    assert_eq!(client.headers.len(), 1);
    assert_eq!(client.queries.expose(), "q=w");
    assert_eq!(client.connect_timeout, Duration::from_secs(10));
    assert_eq!(client.read_timeout, Duration::from_mins(10));
    assert_eq!(
        warnings,
        ["tokenService.body.grant_type is ignored: the proxy sets this field itself"]
    );
}

#[test]
fn tcp_options_are_read_and_bad_ones_ignored() {
    let text = "Name: b\nType: TCP\nAddress: 'tcp://[::1]:1/'\ntcp.nodelay: false\ntcp.socket.keepalive: perhaps\ntcp.socket.linger: 3\ntcp.socket.sndbuf: 65536\ntcp.socket.rcvbuf: -1\ntcp.socket.timeout: 1500\ntcp.socket.reuseaddr: true\n";
    let (destination, warnings) = loaded(text);
    let Protocol::Tcp(tcp) = &destination.protocol else {
        panic!("{destination:?}");
    };
    assert_eq!((tcp.host.as_str(), tcp.port), ("::1", 1));
    let expected = SocketOptions {
        nodelay: false,
        keepalive: true,
        linger: Some(Duration::from_secs(3)),
        send_buffer: Some(65536),
        receive_buffer: None,
        idle_timeout: Some(Duration::from_millis(1500)),
    };
    assert_eq!(tcp.socket, expected);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
}

#[test]
fn the_examples_are_good() {
    let environment = environment(&[("SHOP_PASSWORD", "p"), ("CLIENT_SECRET", "s"), ("API_KEY", "k")]);
    let examples = PathBuf::from("../examples/destinations");
    let snapshot = FileSource::with_environment(vec![examples], environment).load(None);
    let problems: Vec<String> = snapshot.all_problems().map(ToString::to_string).collect();
    assert_eq!(problems, [""; 0]);
    assert!(snapshot.destinations.len() >= 4);
    assert!(
        snapshot
            .destinations
            .iter()
            .all(|loaded| loaded.warnings.is_empty())
    );
}

const FIXTURES: &str = "src/resolve/keystore/fixtures";

fn with_store(fixture: &str, text: &str) -> Snapshot {
    let folder = Folder::new(&[("a.yaml", text)]);
    let stores = folder.path("stores");
    std::fs::create_dir(&stores).unwrap();
    std::fs::copy(PathBuf::from(FIXTURES).join(fixture), stores.join(fixture)).unwrap();
    folder.load(None)
}

#[test]
fn a_client_certificate_comes_from_the_folder() {
    let text = |password: &str| {
        http("a", "a")
            + "Authentication: ClientCertificateAuthentication\nKeyStoreLocation: stores/aes.p12\nKeyStorePassword: "
            + password
    };
    let snapshot = with_store("aes.p12", &text("secret"));
    let destination = snapshot.destinations[0].current().unwrap();
    let http = http_of(destination);
    assert_eq!(http.authentication, Authentication::ClientCertificate);
    let tls = http.tls.as_ref().unwrap();
    let identity = tls.client_identity.as_ref().unwrap();
    assert_eq!(tls.trust_store.0, identity.chain[1..]);

    let snapshot = with_store("aes.p12", &text("MARKER"));
    let problem = snapshot.all_problems().next().unwrap().to_string();
    assert!(problem.contains("its password is wrong"), "{problem}");
    assert!(!problem.contains(MARKER), "{problem}");
}

#[test]
fn a_trust_store_and_mutual_tls_with_the_token_service_go_together() {
    let text = http("a", "a")
        + "Authentication: OAuth2ClientCredentials\nclientId: c\ntokenServiceURL: https://t/\ntokenService.KeyStoreLocation: stores/pkcs8.pem\n";
    let snapshot = with_store("pkcs8.pem", &text);
    let destination = snapshot.destinations[0].current().unwrap();
    assert_eq!(destination.warnings, []);
    let Authentication::OAuth2ClientCredentials(client) = &http_of(destination).authentication else {
        panic!("{destination:?}");
    };
    assert!(client.tls.as_ref().unwrap().client_identity.is_some());

    let text = http("a", "a") + "TrustStoreLocation: stores/trust.pem\n";
    let snapshot = with_store("trust.pem", &text);
    let destination = snapshot.destinations[0].current().unwrap();
    let tls = http_of(destination).tls.as_ref().unwrap();
    assert!(!tls.trust_store.0.is_empty());
}
