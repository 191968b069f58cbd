use std::fmt::Write;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::*;
use crate::error::Names;
use crate::resolve::check::Obstacle;
use crate::resolve::source::secrets::Refused;
use crate::resolve::{self, gateway};

fn io_error() -> io::Error {
    io::Error::other("details for the log")
}

/// One error of each row; the matches of the catalogue keep the list complete.
fn every_error() -> Vec<Error> {
    let mut errors: Vec<Error> = every_resolve_error().map(Error::Resolve).collect();
    errors.extend(every_connect_error().map(Error::Connect));
    errors.extend(every_credentials_error().map(Error::Credentials));
    errors.extend(every_violation().map(Error::Framing));
    errors.extend(every_exchange().map(Error::Exchange));
    errors
}

fn every_resolve_error() -> impl Iterator<Item = resolve::Error> {
    use resolve::Error as R;
    let refused = Refused {
        problems: Vec::new(),
        warnings: Vec::new(),
    };
    let lookup = [
        R::NoDestination,
        R::NotFound,
        R::NotFoundByGateway,
        R::InvalidConfiguration(Arc::new(refused)),
        R::NotHttp,
        R::NotAvailable,
        R::CustomResource(Obstacle::Instance),
        R::CustomResource(Obstacle::Fragment),
    ];
    lookup.into_iter().chain(every_request().map(R::Request))
}

fn every_request() -> impl Iterator<Item = gateway::Error> {
    use gateway::Error as G;
    [
        G::TenantMissing,
        G::TenantTwice,
        G::NameMissing,
        G::TooLong(HeaderName::from_static("x-destination-name")),
        G::DestinationCharacters,
        G::FragmentCharacters,
        G::FragmentOptional,
        G::DestinationLevel,
        G::FragmentLevel,
        G::OnlyForGateways(HeaderName::from_static("x-destination-name")),
        G::FragmentLevelWithoutName,
        G::ChainWithLevel,
        G::ChainVariableWithoutName(HeaderName::from_static("x-chain-var-foo")),
        G::ClientAssertionTwice,
        G::ClientAssertionMissing,
        G::ClientAssertionTypeMissing,
        G::TokenServiceTenant,
        G::NotSupported(HeaderName::from_static("x-chain-name")),
    ]
    .into_iter()
}

fn every_connect_error() -> impl Iterator<Item = connect::Error> {
    use connect::Error as C;
    let others = [
        C::HostNotFound(io_error()),
        C::Refused(io_error()),
        C::Reset(io_error()),
        C::Unreachable(io_error()),
        C::NoLocalPort(io_error()),
        C::AddressNotAllowed,
        C::TimedOut(Duration::from_secs(5)),
        C::Io(io_error()),
    ];
    let tls = [
        TlsFailure::CertificateExpired,
        TlsFailure::CertificateNotTrusted,
        TlsFailure::CertificateNameMismatch,
        TlsFailure::CertificateWithoutSan,
        TlsFailure::ClientCertificate,
        TlsFailure::Protocol,
        TlsFailure::Closed,
    ];
    others.into_iter().chain(tls.map(C::Tls))
}

fn every_violation() -> impl Iterator<Item = Violation> {
    use Violation as V;
    [
        V::TlsNotSupported,
        V::HeadTimeout,
        V::TargetTooLong,
        V::HeadTooLarge,
        V::ObsFold,
    ]
    .into_iter()
}

fn every_credentials_error() -> impl Iterator<Item = credentials::Error> {
    use credentials::Error as K;
    let status = |status, retry_after| K::TokenServiceStatus {
        status,
        code: None,
        detail: None,
        retry_after,
    };
    let tls = connect::tls::Error::ClientIdentity(rustls::Error::DecryptError);
    [
        K::Tls(Arc::new(tls)),
        K::TokenServiceUrl(Arc::new(
            "a b".parse::<http::Uri>().expect_err("a blank is invalid"),
        )),
        K::TokenServiceUnreachable(Arc::new(connect::Error::AddressNotAllowed)),
        K::TokenServiceTimedOut(Duration::from_secs(10)),
        K::TokenServiceProtocol,
        status(StatusCode::SERVICE_UNAVAILABLE, Some(Duration::from_secs(3))),
        status(StatusCode::UNAUTHORIZED, None),
        K::InvalidTokenResponse(credentials::InvalidToken::NoToken),
        K::Cancelled,
    ]
    .into_iter()
}

fn every_exchange() -> impl Iterator<Item = Exchange> {
    [
        Exchange::Unusable(std::sync::Arc::new(std::fmt::Error)),
        Exchange::MethodNotAllowed,
        Exchange::RepeatedHeaders(vec![http::HeaderName::from_static("x-tenant-id")]),
        Exchange::Overloaded,
        Exchange::InvalidRequestTarget,
        Exchange::RequestBody(hyper_error()),
        Exchange::NotAnswering(Duration::from_secs(30)),
        Exchange::InvalidResponse(hyper_error()),
        Exchange::ClosedBeforeResponse(None),
    ]
    .into_iter()
}

/// hyper makes its errors itself, so one is provoked.
fn hyper_error() -> hyper::Error {
    use hyper::client::conn::http1;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let io = hyper_util::rt::TokioIo::new(tokio::io::join(&b"nonsense\r\n\r\n"[..], tokio::io::sink()));
        let (mut sender, connection) = http1::handshake(io).await.expect("nothing is sent yet");
        let request = http::Request::new(http_body_util::Empty::<bytes::Bytes>::new());
        let (answer, _connection) = tokio::join!(sender.send_request(request), connection);
        answer.expect_err("nonsense is no answer")
    })
}

fn table() -> String {
    let mut table = String::from(
        "| Error | Status | `x-error-message` | `x-error-origin` | Internal code | gRPC | What to do |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for error in every_error() {
        let entry = entry(&error);
        let code = entry
            .internal_code
            .map_or("–".to_owned(), |code| format!("e.g. {code}"));
        writeln!(
            table,
            "| `{}` | {} | {} | {} | {code} | {} | {} |",
            entry.id,
            entry.status.as_u16(),
            entry.message,
            entry.origin.as_str(),
            entry.grpc_status,
            entry.remedy
        )
        .expect("a string takes everything");
    }
    table
}

#[test]
fn the_whole_catalogue_is_as_documented() {
    insta::assert_snapshot!("catalogue", table());
}

#[test]
fn the_users_documentation_holds_the_catalogue() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/errors.md");
    let page = std::fs::read_to_string(page).expect("docs/errors.md exists");
    assert!(
        page.contains(&table()),
        "replace the table of docs/errors.md by:\n{}",
        table()
    );
}

#[test]
fn rows_differ_in_their_names_and_say_what_to_do() {
    let entries: Vec<Entry> = every_error().iter().map(entry).collect();
    let names: std::collections::BTreeSet<_> = entries.iter().map(|entry| entry.id).collect();
    assert_eq!(names.len(), entries.len());
    for entry in entries {
        assert!(
            !entry.message.is_empty() && entry.remedy.ends_with('.'),
            "{}",
            entry.id
        );
    }
}

const NAMES: Names<'_> = Names {
    destination: "orders-backend",
    cr: "orders",
    tenant: "provider",
    instance: "secrets",
};

#[test]
fn messages_are_filled_in() {
    let timeout = Error::from(connect::Error::TimedOut(Duration::from_secs(5)));
    assert_eq!(
        message(&timeout, NAMES),
        "The target system of destination 'orders-backend' did not accept the connection within 5 seconds."
    );
    for error in every_error() {
        let message = message(&error, NAMES);
        assert!(!message.contains('<'), "{message}");
    }
}

#[test]
fn each_name_stands_where_it_belongs() {
    let not_found = Error::from(resolve::Error::NotFound);
    assert_eq!(
        message(&not_found, NAMES),
        "Destination 'orders-backend' referred in Destination CR 'orders' is not found in tenant 'provider'. \
         Inspect the Destination CR or contact the Destination Administrator."
    );
    let unsupported = Error::from(resolve::Error::CustomResource(Obstacle::Actions));
    assert_eq!(
        message(&unsupported, NAMES),
        "'spec.actions' of Destination CR 'orders' is not supported by Destination service instance 'secrets'."
    );
}

#[test]
fn names_are_no_templates_and_stay_short() {
    let long = format!("<cr>\r\n{}", "x".repeat(300));
    let names = Names {
        destination: &long,
        ..NAMES
    };
    let message = message(&resolve::Error::NotFoundByGateway.into(), names);
    let shown = format!("<cr>{}", "x".repeat(196));
    assert_eq!(
        message,
        format!(
            "Destination '{shown}' not found in tenant 'provider'. Contact the Destination Administrator."
        )
    );
}
