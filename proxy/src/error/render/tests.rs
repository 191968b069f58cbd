use std::time::Duration;

use super::*;
use crate::credentials;
use crate::error::Exchange;

static ID: HeaderValue = HeaderValue::from_static("id");

fn asked(destination: &str) -> Asked<'_> {
    Asked {
        names: Names::of_destination(destination),
        request_id: &ID,
        head: false,
        grpc: false,
    }
}

fn refused() -> Error {
    credentials::Error::TokenServiceStatus {
        status: StatusCode::SERVICE_UNAVAILABLE,
        code: None,
        detail: Some("secret".to_owned()),
        retry_after: Some(Duration::from_secs(7)),
    }
    .into()
}

#[test]
fn an_internal_code_is_sent_under_both_names() {
    let response = response(&refused(), asked("orders"));
    assert_eq!(response.headers()["x-internal-error-code"], "503");
    assert_eq!(response.headers()["x-error-internal-code"], "503");
    assert_eq!(response.headers()["retry-after"], "7");
}

#[test]
fn details_are_for_the_log_only() {
    let response = response(&refused(), asked("orders"));
    assert!(!format!("{response:?}").contains("secret"));
}

#[test]
fn field_values_are_one_short_line_of_printable_ascii() {
    let name = format!("a\r\nb\u{e4}{}", "x".repeat(2000));
    let response = response(&Exchange::InvalidRequestTarget.into(), asked(&name));
    let message = response.headers()["x-error-message"].as_bytes();
    assert!(message.len() <= MAX_HEADER_TEXT && message.iter().all(|byte| (b' '..=b'~').contains(byte)));
    assert!(message.starts_with(b"The path of the request is not valid for destination 'ab?xxx"));
}

#[test]
fn grpc_calls_get_status_200_and_an_encoded_message() {
    let asked = Asked {
        grpc: true,
        ..asked("50%\u{e4}")
    };
    let response = response(&Exchange::InvalidRequestTarget.into(), asked);
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["grpc-status"], "3");
    assert!(
        response.headers()["grpc-message"]
            .to_str()
            .unwrap()
            .contains("'50%25%C3%A4'")
    );
    assert!(response.body().is_empty());
}

#[test]
fn errors_of_syntax_close_the_connection() {
    let response = response(&Exchange::MethodNotAllowed.into(), asked("orders"));
    assert_eq!(response.headers()["connection"], "close");
}
