use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::test_server::{Authority, Demands, common_name, config, expired, self_signed, serve};
use super::*;
use crate::connect;
use crate::resolve::destination::HostnameVerifier;

const LIMIT: Duration = Duration::from_secs(10);
const TLS_1_2: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];
const TLS_1_3: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

fn strict(trust_store: CertificateStore) -> TlsPolicy {
    TlsPolicy {
        trust_all: false,
        trust_store,
        hostname_verifier: HostnameVerifier::Strict,
        client_identity: None,
    }
}

fn browser_compatible(trust_store: CertificateStore) -> TlsPolicy {
    TlsPolicy {
        hostname_verifier: HostnameVerifier::BrowserCompatible,
        ..strict(trust_store)
    }
}

fn trust_all() -> TlsPolicy {
    TlsPolicy {
        trust_all: true,
        ..strict(CertificateStore::default())
    }
}

fn client(policy: &TlsPolicy) -> TlsClient {
    TlsClient::new(policy, Alpn::Http2OrHttp1, &CertificateStore::default()).expect("a usable policy")
}

async fn connect(
    client: &TlsClient,
    address: SocketAddr,
    host: &str,
) -> Result<TlsStream<TcpStream>, connect::Error> {
    let tcp = TcpStream::connect(address).await.expect("the server listens");
    client.handshake(tcp, host, Instant::now() + LIMIT, LIMIT).await
}

/// What the server said, or the class of the failure.
async fn outcome(policy: &TlsPolicy, address: SocketAddr, host: &str) -> Result<String, TlsFailure> {
    greeting(&client(policy), address, host).await
}

async fn greeting(client: &TlsClient, address: SocketAddr, host: &str) -> Result<String, TlsFailure> {
    let mut stream = match connect(client, address, host).await {
        Ok(stream) => stream,
        Err(connect::Error::Tls(failure)) => return Err(failure),
        Err(error) => panic!("not a TLS failure: {error:?}"),
    };
    let mut text = String::new();
    match stream.read_to_string(&mut text).await {
        Ok(_) => Ok(text),
        Err(error) => Err(classify_io(&error).expect("a TLS failure")),
    }
}

#[tokio::test]
async fn a_server_of_a_trusted_authority_is_accepted() {
    let authority = Authority::new("ca");
    let server = serve(config(&authority.issue(&["server.test"]), Demands::default())).await;
    let accepted = outcome(&strict(authority.store()), server, "server.test").await;
    assert_eq!(accepted.as_deref(), Ok("server.test full"));
    let absolute = outcome(&strict(authority.store()), server, "server.test.").await;
    assert_eq!(absolute.as_deref(), Ok("server.test full"));
}

#[tokio::test]
async fn extra_roots_are_trusted_like_those_of_the_policy() {
    let authority = Authority::new("ca");
    let server = serve(config(&authority.issue(&["server.test"]), Demands::default())).await;
    let policy = strict(CertificateStore::default());
    let client = TlsClient::new(&policy, Alpn::Http1, &authority.store()).expect("a usable policy");
    assert_eq!(
        greeting(&client, server, "server.test").await.as_deref(),
        Ok("server.test full")
    );
}

#[tokio::test]
async fn a_server_of_an_unknown_authority_is_refused() {
    let server = serve(config(
        &Authority::new("ca").issue(&["server.test"]),
        Demands::default(),
    ))
    .await;
    for policy in [strict, browser_compatible] {
        let refused = outcome(&policy(Authority::new("other").store()), server, "server.test").await;
        assert_eq!(refused, Err(TlsFailure::CertificateNotTrusted));
    }
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let authority = Authority::new("ca");
    let server = serve(config(
        &authority.issue_with(&["server.test"], expired),
        Demands::default(),
    ))
    .await;
    for policy in [strict, browser_compatible] {
        let refused = outcome(&policy(authority.store()), server, "server.test").await;
        assert_eq!(refused, Err(TlsFailure::CertificateExpired));
    }
}

#[tokio::test]
async fn a_certificate_of_another_host_is_refused() {
    let authority = Authority::new("ca");
    let server = serve(config(&authority.issue(&["server.test"]), Demands::default())).await;
    for policy in [strict, browser_compatible] {
        let refused = outcome(&policy(authority.store()), server, "other.test").await;
        assert_eq!(refused, Err(TlsFailure::CertificateNameMismatch));
    }
}

#[tokio::test]
async fn a_strict_wildcard_covers_exactly_one_label() {
    let authority = Authority::new("ca");
    let server = serve(config(&authority.issue(&["*.foo.test"]), Demands::default())).await;
    let strict = strict(authority.store());
    assert!(outcome(&strict, server, "a.foo.test").await.is_ok());
    let refused = outcome(&strict, server, "a.b.foo.test").await;
    assert_eq!(refused, Err(TlsFailure::CertificateNameMismatch));
    let several = outcome(&browser_compatible(authority.store()), server, "a.b.foo.test").await;
    assert_eq!(several.as_deref(), Ok("a.b.foo.test full"));
}

#[tokio::test]
async fn the_common_name_counts_only_for_browser_compatible_without_dns_names() {
    let authority = Authority::new("ca");
    let only_cn = authority.issue_with(&[], common_name("server.test"));
    let server = serve(config(&only_cn, Demands::default())).await;
    let refused = outcome(&strict(authority.store()), server, "server.test").await;
    assert_eq!(refused, Err(TlsFailure::CertificateWithoutSan));
    let compatible = browser_compatible(authority.store());
    assert!(outcome(&compatible, server, "server.test").await.is_ok());
    assert_eq!(
        outcome(&compatible, server, "other.test").await,
        Err(TlsFailure::CertificateWithoutSan)
    );

    let both = authority.issue_with(&["san.test"], common_name("server.test"));
    let server = serve(config(&both, Demands::default())).await;
    let refused = outcome(&compatible, server, "server.test").await;
    assert_eq!(refused, Err(TlsFailure::CertificateNameMismatch));
}

#[tokio::test]
async fn addresses_are_verified_and_not_sent_as_server_name() {
    let authority = Authority::new("ca");
    let server = serve(config(
        &authority.issue(&["127.0.0.1", "::1"]),
        Demands::default(),
    ))
    .await;
    let strict = strict(authority.store());
    assert_eq!(
        outcome(&strict, server, "127.0.0.1").await.as_deref(),
        Ok("- full")
    );
    assert_eq!(outcome(&strict, server, "::1").await.as_deref(), Ok("- full"));
    let refused = outcome(&strict, server, "127.0.0.2").await;
    assert_eq!(refused, Err(TlsFailure::CertificateNameMismatch));

    let only_cn = authority.issue_with(&[], common_name("127.0.0.1"));
    let server = serve(config(&only_cn, Demands::default())).await;
    assert!(
        outcome(&browser_compatible(authority.store()), server, "127.0.0.1")
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn trust_all_accepts_whatever_is_shown_and_still_sends_the_name() {
    let authority = Authority::new("ca");
    let strange = [
        self_signed(&["other.test"], |_| {}),
        authority.issue_with(&["other.test"], expired),
        authority.issue_with(&[], common_name("x")),
    ];
    for identity in strange {
        let server = serve(config(&identity, Demands::default())).await;
        let accepted = outcome(&trust_all(), server, "server.test").await;
        assert_eq!(accepted.as_deref(), Ok("server.test full"));
    }
}

#[tokio::test]
async fn a_self_signed_certificate_is_trusted_if_it_is_in_the_trust_store() {
    let as_authority = |params: &mut rcgen::CertificateParams| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    };
    let identities = [
        self_signed(&["server.test"], |_| {}),
        self_signed(&["server.test"], as_authority),
    ];
    for identity in identities {
        let server = serve(config(&identity, Demands::default())).await;
        let store = CertificateStore(identity.chain.clone());
        assert!(
            outcome(&strict(store.clone()), server, "server.test")
                .await
                .is_ok()
        );
        let wrong_host = outcome(&strict(store), server, "other.test").await;
        assert_eq!(wrong_host, Err(TlsFailure::CertificateNameMismatch));
        let unknown = outcome(&strict(CertificateStore::default()), server, "server.test").await;
        assert_eq!(unknown, Err(TlsFailure::CertificateNotTrusted));
    }
    let identity = self_signed(&["server.test"], expired);
    let server = serve(config(&identity, Demands::default())).await;
    let refused = outcome(
        &strict(CertificateStore(identity.chain.clone())),
        server,
        "server.test",
    )
    .await;
    assert_eq!(refused, Err(TlsFailure::CertificateExpired));
}

#[tokio::test]
async fn a_leaf_in_the_trust_store_does_not_vouch_for_others() {
    let authority = Authority::new("ca");
    let server = serve(config(&authority.issue(&["server.test"]), Demands::default())).await;
    let sibling = authority.issue(&["server.test"]);
    let refused = outcome(&strict(CertificateStore(sibling.chain)), server, "server.test").await;
    assert_eq!(refused, Err(TlsFailure::CertificateNotTrusted));
}

#[tokio::test]
async fn a_client_certificate_is_shown_and_a_missing_or_wrong_one_is_named() {
    let authority = Authority::new("ca");
    for versions in [TLS_1_2, TLS_1_3] {
        let demands = Demands {
            client_authority: Some(&authority),
            versions,
            ..Demands::default()
        };
        let server = serve(config(&authority.issue(&["server.test"]), demands)).await;
        let with = |client_identity| TlsPolicy {
            client_identity,
            ..strict(authority.store())
        };

        let right = outcome(&with(Some(authority.issue(&["client"]))), server, "server.test").await;
        assert_eq!(right.as_deref(), Ok("server.test full"));
        let missing = outcome(&with(None), server, "server.test").await;
        assert_eq!(missing, Err(TlsFailure::ClientCertificate));
        let stranger = Authority::new("stranger").issue(&["client"]);
        let wrong = outcome(&with(Some(stranger)), server, "server.test").await;
        assert_eq!(wrong, Err(TlsFailure::ClientCertificate));
        let expired = authority.issue_with(&["client"], expired);
        let refused = outcome(&with(Some(expired)), server, "server.test").await;
        assert_eq!(refused, Err(TlsFailure::ClientCertificate));
    }
}

#[tokio::test]
async fn authorities_of_the_client_key_store_are_trusted() {
    let authority = Authority::new("ca");
    let server = serve(config(&authority.issue(&["server.test"]), Demands::default())).await;
    let mut identity = authority.issue(&["client"]);
    identity.authorities = authority.store();
    let policy = TlsPolicy {
        client_identity: Some(identity),
        ..strict(CertificateStore::default())
    };
    assert!(outcome(&policy, server, "server.test").await.is_ok());
}

#[tokio::test]
async fn tls_1_2_servers_are_served() {
    let authority = Authority::new("ca");
    let demands = Demands {
        versions: TLS_1_2,
        ..Demands::default()
    };
    let server = serve(config(&authority.issue(&["server.test"]), demands)).await;
    assert!(
        outcome(&strict(authority.store()), server, "server.test")
            .await
            .is_ok()
    );
    assert!(outcome(&trust_all(), server, "server.test").await.is_ok());
}

#[tokio::test]
async fn the_application_protocol_is_negotiated() {
    let authority = Authority::new("ca");
    for (offered, h2) in [
        (&["h2", "http/1.1"][..], true),
        (&["http/1.1"], false),
        (&[], false),
    ] {
        let demands = Demands {
            alpn: offered,
            ..Demands::default()
        };
        let server = serve(config(&authority.issue(&["server.test"]), demands)).await;
        let stream = connect(&client(&strict(authority.store())), server, "server.test").await;
        assert_eq!(negotiated_h2(&stream.expect("a handshake")), h2, "{offered:?}");
    }
}

#[tokio::test]
async fn sessions_are_resumed_within_one_client_only() {
    let authority = Authority::new("ca");
    let server = serve(config(&authority.issue(&["server.test"]), Demands::default())).await;
    let policy = strict(authority.store());
    let first = client(&policy);
    assert_eq!(
        greeting(&first, server, "server.test").await.as_deref(),
        Ok("server.test full")
    );
    assert_eq!(
        greeting(&first, server, "server.test").await.as_deref(),
        Ok("server.test resumed")
    );
    assert_eq!(
        outcome(&policy, server, "server.test").await.as_deref(),
        Ok("server.test full")
    );
}

#[tokio::test]
async fn a_plain_server_and_a_closing_one_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let (mut plain, _) = listener.accept().await.expect("a client");
        plain
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .expect("written");
        let (mut closing, _) = listener.accept().await.expect("a client");
        closing
            .read_exact(&mut [0; 5])
            .await
            .expect("the start of a hello");
        let mut rest = [0; 4096];
        let _ = closing.read(&mut rest).await.expect("the rest of it");
        closing.shutdown().await.expect("closed");
    });
    assert_eq!(
        outcome(&trust_all(), address, "server.test").await,
        Err(TlsFailure::Protocol)
    );
    assert_eq!(
        outcome(&trust_all(), address, "server.test").await,
        Err(TlsFailure::Closed)
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_ends_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let error = connect(&client(&trust_all()), address, "server.test")
        .await
        .expect_err("nobody answers");
    assert!(matches!(error, connect::Error::TimedOut(LIMIT)), "{error:?}");
}

#[tokio::test]
async fn a_stream_cut_without_close_notify_is_an_error() {
    let authority = Authority::new("ca");
    let server_config = config(&authority.issue(&["server.test"]), Demands::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.expect("a client");
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server_config));
        let mut stream = acceptor.accept(tcp).await.expect("a handshake");
        stream.write_all(b"half of the ans").await.expect("written");
        stream.flush().await.expect("flushed");
        let (mut tcp, _) = stream.into_inner();
        tcp.shutdown().await.expect("closed");
    });
    let mut stream = connect(&client(&strict(authority.store())), address, "server.test")
        .await
        .expect("a handshake");
    let error = stream
        .read_to_end(&mut Vec::new())
        .await
        .expect_err("the end is missing");
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
}
