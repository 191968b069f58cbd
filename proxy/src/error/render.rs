//! An error as an HTTP answer: the only writer of the `x-error-*` fields.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Serialize;

use super::catalogue::{self, Entry};
use super::{Error, Names};

pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const ERROR_MESSAGE: HeaderName = HeaderName::from_static("x-error-message");
const ERROR_ORIGIN: HeaderName = HeaderName::from_static("x-error-origin");
/// Clients in the field read the internal code under either name.
const INTERNAL_CODE: [HeaderName; 2] = [
    HeaderName::from_static("x-internal-error-code"),
    HeaderName::from_static("x-error-internal-code"),
];
const PROXY_SERVER: HeaderName = HeaderName::from_static("x-proxy-server");

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// What may be in a header field at most; longer texts are cut.
const MAX_HEADER_TEXT: usize = 1024;

/// What `grpc-message` encodes besides non-ASCII and control characters
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#responses>).
const GRPC_ENCODED: &AsciiSet = &CONTROLS.add(b'%');

/// True for a field that only the proxy may send to applications.
pub fn is_error_field(name: &str) -> bool {
    matches!(
        name,
        "x-error-message"
            | "x-error-origin"
            | "x-internal-error-code"
            | "x-error-internal-code"
            | "x-proxy-server"
    )
}

/// What of the request shapes the answer.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub names: Names<'a>,
    pub request_id: &'a HeaderValue,
    /// A HEAD request: no body.
    pub head: bool,
    /// A gRPC call over HTTP/2: status 200 and the error in trailers (here: in a lone head).
    pub grpc: bool,
}

/// The answer for `error`; the body is empty where none may be sent.
pub fn response(error: &Error, asked: Asked<'_>) -> Response<Bytes> {
    let entry = catalogue::entry(error);
    let message = catalogue::message(error, asked.names);
    let mut headers = HeaderMap::with_capacity(10);
    write_error_fields(&mut headers, &entry, &message, asked.request_id);
    let (status, body) = if asked.grpc {
        write_grpc(&mut headers, &entry, &message);
        (StatusCode::OK, Bytes::new())
    } else {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let body = if asked.head {
            Bytes::new()
        } else {
            json(&entry, &message, asked.request_id)
        };
        (entry.status, body)
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// As it is written where nobody speaks HTTP who would do it.
pub fn as_http1(response: &Response<Bytes>) -> Bytes {
    let mut text = format!("HTTP/1.1 {}\r\n", response.status()).into_bytes();
    let length = HeaderValue::from(response.body().len());
    for (name, value) in response.headers().iter().chain([(&CONTENT_LENGTH, &length)]) {
        text.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    text.extend_from_slice(b"\r\n");
    text.extend_from_slice(response.body());
    text.into()
}

fn write_error_fields(headers: &mut HeaderMap, entry: &Entry, message: &str, request_id: &HeaderValue) {
    headers.insert(ERROR_MESSAGE, header_text(message));
    headers.insert(ERROR_ORIGIN, HeaderValue::from_static(entry.origin.as_str()));
    if let Some(code) = entry.internal_code {
        for name in INTERNAL_CODE {
            headers.insert(name, HeaderValue::from(code));
        }
    }
    headers.insert(PROXY_SERVER, HeaderValue::from_static("Transparent Proxy"));
    headers.insert(REQUEST_ID, request_id.clone());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(seconds) = entry.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if entry.closes {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

fn write_grpc(headers: &mut HeaderMap, entry: &Entry, message: &str) {
    headers.remove(CONNECTION);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(entry.grpc_status)));
    let encoded = utf8_percent_encode(message, GRPC_ENCODED).to_string();
    headers.insert(GRPC_MESSAGE, header_text(&encoded));
}

/// One line of printable ASCII, everything else replaced, so that nothing echoed can break a head.
fn header_text(text: &str) -> HeaderValue {
    let printable: String = text
        .chars()
        .take(MAX_HEADER_TEXT)
        .map(|character| {
            if matches!(character, ' '..='~') {
                character
            } else {
                '?'
            }
        })
        .collect();
    HeaderValue::from_maybe_shared(Bytes::from(printable)).expect("printable ASCII is a valid field value")
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    status: u16,
    message: &'a str,
    origin: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    internal_error_code: Option<u16>,
    request_id: &'a str,
}

#[derive(Serialize)]
struct Document<'a> {
    error: Body<'a>,
}

fn json(entry: &Entry, message: &str, request_id: &HeaderValue) -> Bytes {
    let error = Body {
        status: entry.status.as_u16(),
        message,
        origin: entry.origin.as_str(),
        internal_error_code: entry.internal_code,
        request_id: request_id.to_str().unwrap_or_default(),
    };
    serde_json::to_vec(&Document { error })
        .map(Bytes::from)
        .unwrap_or_default()
}

#[cfg(test)]
#[path = "render/tests.rs"]
mod tests;
