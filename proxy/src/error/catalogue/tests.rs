use std::fmt::Write;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::*;

fn io_error() -> io::Error {
    io::Error::other("details for the log")
}

/// One error of each row; the matches above keep the list complete.
fn every_error() -> Vec<Error> {
    use Violation as V;
    use connect::Error as C;
    let limit = Duration::from_secs(5);
    let mut errors: Vec<Error> = vec![
        C::HostNotFound(io_error()).into(),
        C::Refused(io_error()).into(),
        C::Reset(io_error()).into(),
        C::Unreachable(io_error()).into(),
        C::NoLocalPort(io_error()).into(),
        C::AddressNotAllowed.into(),
        C::TimedOut(limit).into(),
        C::Io(io_error()).into(),
    ];
    errors.extend(
        [
            TlsFailure::CertificateExpired,
            TlsFailure::CertificateNotTrusted,
            TlsFailure::CertificateNameMismatch,
            TlsFailure::CertificateWithoutSan,
            TlsFailure::ClientCertificate,
            TlsFailure::Protocol,
            TlsFailure::Closed,
        ]
        .map(|failure| C::Tls(failure).into()),
    );
    errors.extend(every_credentials_error().map(Error::Credentials));
    errors.extend(
        [
            V::TlsNotSupported,
            V::HeadTimeout,
            V::TargetTooLong,
            V::HeadTooLarge,
            V::ObsFold,
        ]
        .map(Error::Framing),
    );
    errors.extend(every_exchange().map(Error::Exchange));
    errors
}

fn every_credentials_error() -> impl Iterator<Item = credentials::Error> {
    use credentials::Error as K;
    let status = |status, retry_after| K::TokenServiceStatus {
        status,
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
        Exchange::NoDestination,
        Exchange::MethodNotAllowed,
        Exchange::RepeatedHeaders(vec![http::HeaderName::from_static("x-tenant-id")]),
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

#[test]
fn messages_are_filled_in() {
    let timeout = Error::from(connect::Error::TimedOut(Duration::from_secs(5)));
    assert_eq!(
        message(&timeout, "orders"),
        "The target system of destination 'orders' did not accept the connection within 5 seconds."
    );
    for error in every_error() {
        let message = message(&error, "orders");
        assert!(!message.contains('<'), "{message}");
    }
}
