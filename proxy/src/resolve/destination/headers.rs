//! `URL.headers.*`, `URL.queries.*` and the same of the token service.

use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::reader::Reader;
use crate::secret::Secret;

/// Everything except the unreserved characters (RFC 3986, section 2.3).
const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Fields about one connection or the framing of one message (RFC 9110, section 7.6.1):
/// only who sends the message may set them.
const NEVER_SETTABLE: &[&str] = &[
    "connection",
    "content-length",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
const NEVER_SETTABLE_PREFIXES: &[&str] = &["proxy-", "sap-connectivity-"];

/// A second one of these would make the request invalid or ambiguous.
const ONLY_ONCE: &[HeaderName] = &[AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT];

/// Headers that can be sent; the others are warned about and left out.
pub(super) fn headers(reader: &mut Reader<'_>, prefix: &str) -> Vec<(HeaderName, HeaderValue)> {
    let properties = reader.properties;
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for (key, value) in properties.with_prefix(prefix) {
        match header(key, value, &headers) {
            Ok(header) => headers.push(header),
            Err(reason) => reader.warn(format!("{prefix}{key}"), reason),
        }
    }
    headers
}

fn header(
    key: &str,
    value: &Secret,
    earlier: &[(HeaderName, HeaderValue)],
) -> Result<(HeaderName, HeaderValue), &'static str> {
    let name = HeaderName::try_from(key)
        .map_err(|_no_detail| "is ignored: what follows the prefix is not a header name")?;
    if is_never_settable(&name) {
        return Err("is ignored: this header is about the connection and cannot be configured");
    }
    if ONLY_ONCE.contains(&name) && earlier.iter().any(|(other, _)| *other == name) {
        return Err("is ignored: the same header is set in another spelling");
    }
    let mut value = HeaderValue::try_from(value.expose()).map_err(
        |_no_detail| "is ignored: a header value cannot contain control characters such as line breaks",
    )?;
    value.set_sensitive(true);
    Ok((name, value))
}

fn is_never_settable(name: &HeaderName) -> bool {
    let name = name.as_str();
    NEVER_SETTABLE.contains(&name) || NEVER_SETTABLE_PREFIXES.iter().any(|p| name.starts_with(p))
}

/// `key=value` pairs, percent-encoded and joined with `&`.
pub(super) fn queries(reader: &mut Reader<'_>, prefix: &str) -> Secret {
    let properties = reader.properties;
    let mut pairs = String::new();
    for (key, value) in properties.with_prefix(prefix) {
        if key.is_empty() {
            reader.warn(prefix, "is ignored: the name of the query parameter is missing");
            continue;
        }
        if !pairs.is_empty() {
            pairs.push('&');
        }
        pairs.extend(utf8_percent_encode(key, QUERY));
        pairs.push('=');
        pairs.extend(utf8_percent_encode(value.expose(), QUERY));
    }
    Secret::from(pairs)
}
