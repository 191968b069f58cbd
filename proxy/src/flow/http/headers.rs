//! Which header fields go to the target, which come back.

use std::cell::RefCell;
use std::time::Duration;

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_TYPE, COOKIE,
    FROM, HOST, IF_MODIFIED_SINCE, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE, REFERER, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE, USER_AGENT, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use smallvec::SmallVec;

use crate::credentials::Injection;
use crate::error::Exchange;
use crate::error::render::{REQUEST_ID, is_error_field};
use crate::resolve;
use crate::resolve::destination::{Authentication, HttpDestination};
use crate::resolve::gateway::{self, CHAIN_VARIABLE};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// The destination's part in a request's head, prepared once.
pub(super) struct Rules {
    host: HeaderValue,
    added: Vec<Added>,
    /// The proxy fetches a token for the request.
    needs_token: bool,
}

struct Added {
    name: HeaderName,
    value: HeaderValue,
    how: How,
}

/// `URL.headers.*` stand beside the application's fields of the same name, except
/// where HTTP allows only one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Append,
    IfAbsent,
    Replace,
    Join,
}

/// What of the request itself decides about fields.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind<'a> {
    /// The body is there, and its length is not known.
    pub unknown_length: bool,
    /// The protocol of a requested upgrade.
    pub upgrade: Option<&'a HeaderValue>,
}

impl Rules {
    pub(super) fn new(destination: &HttpDestination) -> Self {
        let mut host = destination.url.authority.clone();
        let mut added = Vec::new();
        for (name, value) in &destination.headers {
            match how(name) {
                Some(How::Replace) if *name == HOST => host = value.clone(),
                Some(how) => added.push(Added {
                    name: name.clone(),
                    value: value.clone(),
                    how,
                }),
                None => {}
            }
        }
        Self {
            host,
            added,
            needs_token: matches!(
                destination.authentication,
                Authentication::OAuth2ClientCredentials(_) | Authentication::OAuth2Password { .. }
            ),
        }
    }

    /// Refuses fields that this destination cannot follow.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), resolve::Error> {
        if self.needs_token {
            gateway::check_token_request(headers)?;
        }
        Ok(())
    }

    pub(super) fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// The application's fields as they go to the target.
    ///
    /// What the application may not decide is removed before anything is added, so
    /// that no field named in `Connection` takes an injected one away.
    pub(super) fn request(
        &self,
        headers: HeaderMap,
        injection: &Injection,
        request_id: &HeaderValue,
        kind: Kind<'_>,
    ) -> HeaderMap {
        let trailers = wants_trailers(&headers);
        // A token goes before `URL.headers.Authorization`, which goes before the application's own.
        let authorization = headers.get(AUTHORIZATION);
        let drops_authorization =
            authorization.is_some_and(|value| !injection.app_authorization.passes(value));
        let mut headers = without(headers, |name| {
            is_dropped_from_requests(name)
                || (*name == AUTHORIZATION && drops_authorization)
                || (*name == TRAILER && !kind.unknown_length)
        });
        headers.insert(HOST, self.host.clone());
        headers.insert(REQUEST_ID, request_id.clone());
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        if let Some(protocol) = kind.upgrade {
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, protocol.clone());
        }
        self.added.iter().for_each(|added| added.apply(&mut headers));
        if let Some((name, value)) = &injection.header {
            headers.insert(name.clone(), value.clone());
        }
        headers
    }
}

/// How a configured field is added; `None` for those that are not settable.
fn how(name: &HeaderName) -> Option<How> {
    const FIRST_WINS: [HeaderName; 10] = [
        CONTENT_TYPE,
        CONTENT_ENCODING,
        CONTENT_LOCATION,
        USER_AGENT,
        REFERER,
        FROM,
        IF_MODIFIED_SINCE,
        IF_UNMODIFIED_SINCE,
        IF_RANGE,
        RANGE,
    ];
    if *name == CONTENT_LENGTH || is_dropped_from_requests(name) || is_hop_by_hop(name) {
        return None;
    }
    Some(match name {
        &HOST | &AUTHORIZATION => How::Replace,
        &COOKIE => How::Join,
        name if FIRST_WINS.contains(name) => How::IfAbsent,
        _ => How::Append,
    })
}

impl Added {
    fn apply(&self, headers: &mut HeaderMap) {
        match self.how {
            How::Append => {
                headers.append(self.name.clone(), self.value.clone());
            }
            How::IfAbsent => {
                headers
                    .entry(self.name.clone())
                    .or_insert_with(|| self.value.clone());
            }
            How::Replace => {
                headers.insert(self.name.clone(), self.value.clone());
            }
            How::Join => self.join(headers),
        }
    }

    fn join(&self, headers: &mut HeaderMap) {
        let mut joined = Vec::new();
        for value in headers.get_all(&self.name) {
            joined.extend_from_slice(value.as_bytes());
            joined.extend_from_slice(b"; ");
        }
        joined.extend_from_slice(self.value.as_bytes());
        let mut value = HeaderValue::try_from(joined).expect("field values joined by `; ` are a field value");
        value.set_sensitive(true);
        headers.insert(self.name.clone(), value);
    }
}

/// The target's fields as they go to the application.
pub(super) fn response(headers: HeaderMap, request_id: &HeaderValue, keeps_trailer: bool) -> HeaderMap {
    let mut headers = without(headers, |name| {
        is_hop_by_hop(name)
            || is_error_field(name.as_str())
            || (*name == TRAILER && !keeps_trailer)
            || name.as_str().starts_with("proxy-")
    });
    headers.entry(REQUEST_ID).or_insert_with(|| request_id.clone());
    headers
}

type Names = SmallVec<[HeaderName; 8]>;

thread_local! {
    /// An empty map with room, so that to leave fields out needs no new memory.
    static SPARE: RefCell<HeaderMap> = RefCell::default();
}

/// The fields without those that `drops` names and without those that `Connection` names. Order is kept.
fn without(mut headers: HeaderMap, drops: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    // `Connection`, which may name more, is dropped itself.
    if !headers.keys().any(&drops) {
        return headers;
    }
    let named = named_in_connection(&headers);
    let is_dropped = |name: &HeaderName| drops(name) || named.contains(name);
    let mut kept = SPARE.take();
    let mut name = None;
    for (next, value) in headers.drain() {
        name = match next {
            Some(next) => (!is_dropped(&next)).then_some(next),
            None => name,
        };
        if let Some(name) = &name {
            kept.append(name.clone(), value);
        }
    }
    SPARE.set(headers);
    kept
}

fn named_in_connection(headers: &HeaderMap) -> Names {
    let mut names = Names::new();
    for value in headers.get_all(CONNECTION) {
        for option in value
            .as_bytes()
            .split(|byte| *byte == b',')
            .map(<[u8]>::trim_ascii)
        {
            if option.eq_ignore_ascii_case(b"keep-alive") || option.eq_ignore_ascii_case(b"close") {
                continue;
            }
            // Nobody may name away what makes the message itself.
            if let Ok(name) = HeaderName::from_bytes(option)
                && name != HOST
                && name != CONTENT_LENGTH
            {
                names.push(name);
            }
        }
    }
    names
}

fn wants_trailers(headers: &HeaderMap) -> bool {
    headers.get_all(TE).iter().any(|value| {
        let mut codings = value.as_bytes().split(|byte| *byte == b',');
        codings.any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    })
}

/// Fields that are for one connection only; `Trailer` depends on the body.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "te" | "upgrade"
    )
}

fn is_dropped_from_requests(name: &HeaderName) -> bool {
    if is_hop_by_hop(name) {
        return true;
    }
    let name = name.as_str();
    match name.as_bytes().first() {
        Some(b'p') => name.starts_with("proxy-"),
        Some(b's') => name.starts_with("sap-connectivity-") || name.starts_with("sap-cp-"),
        // Fields that speak to the proxy.
        Some(b'x' | b'c') => place(name).is_some(),
        _ => false,
    }
}

/// What decides something, so may stand in a request only once, in the order of the documentation,
/// which is the one of messages.
const SINGLE: [&str; 22] = [
    "x-destination-name",
    "x-destination-level",
    "x-fragment-name",
    "x-fragment-optional",
    "x-fragment-level",
    "x-tenant-id",
    "x-tenant-subdomain",
    "x-token-service-tenant",
    "x-client-assertion",
    "x-client-assertion-type",
    "x-client-assertion-destination-name",
    "authorization",
    "x-subject-token-type",
    "x-actor-token",
    "x-actor-token-type",
    "x-redirect-uri",
    "x-code-verifier",
    "x-chain-name",
    CHAIN_VARIABLE,
    "sap-connectivity-scc-location_id",
    "sap-connectivity-region-configuration-id",
    "connectivity-proxy-authorization",
];

fn place(name: &str) -> Option<usize> {
    let listed = if name.starts_with(CHAIN_VARIABLE) {
        CHAIN_VARIABLE
    } else {
        name
    };
    SINGLE.iter().position(|single| *single == listed)
}

/// Refuses requests in which a field that decides something stands more than once.
pub(super) fn refuse_repeated(headers: &HeaderMap) -> Result<(), Exchange> {
    if headers.len() == headers.keys_len() {
        return Ok(());
    }
    let is_repeated = |name: &&HeaderName| headers.get_all(*name).iter().nth(1).is_some();
    let in_place = |name: &HeaderName| Some((place(name.as_str())?, name.clone()));
    let mut repeated: Vec<_> = headers.keys().filter(is_repeated).filter_map(in_place).collect();
    if repeated.is_empty() {
        return Ok(());
    }
    repeated.sort_by_key(|(place, _)| *place);
    let names = repeated.into_iter().map(|(_, name)| name).collect();
    Err(Exchange::RepeatedHeaders(names))
}

/// The protocol that an application wants to change to.
pub(super) fn wanted_upgrade(headers: &HeaderMap) -> Option<&HeaderValue> {
    let protocol = headers.get(UPGRADE)?;
    let asked = headers.get_all(CONNECTION).iter().any(|value| {
        let mut options = value.as_bytes().split(|byte| *byte == b',');
        options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
    });
    // HTTP/2 over an upgrade is gone since RFC 9113; such a request is answered as it is.
    (asked && !protocol.as_bytes().eq_ignore_ascii_case(b"h2c")).then_some(protocol)
}

/// What only HTTP/1 needs: how the body is framed, and the option that goes with `TE`.
pub(super) fn finish_for_http1(headers: &mut HeaderMap, unknown_length: bool) {
    if unknown_length {
        // Said explicitly, because hyper would leave out the body of a GET otherwise.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if headers.contains_key(TE) {
        headers.append(CONNECTION, HeaderValue::from_static("TE"));
    }
}

/// The idle limit that a server announces: `Keep-Alive: timeout=5, max=100`.
pub(super) fn server_idle(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(KEEP_ALIVE)?.to_str().ok()?;
    let timeout = value
        .split(',')
        .find_map(|part| part.trim().strip_prefix("timeout="))?;
    timeout.trim().parse().ok().map(Duration::from_secs)
}

/// The target authenticates connections instead of requests.
pub(super) fn authenticates_connection<B>(response: &Response<B>) -> bool {
    let schemes = [&b"NTLM"[..], b"Negotiate"];
    response.status() == StatusCode::UNAUTHORIZED
        && response
            .headers()
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .any(|challenge| {
                let scheme = challenge
                    .as_bytes()
                    .split(|byte| *byte == b' ')
                    .next()
                    .unwrap_or_default();
                schemes.iter().any(|known| scheme.eq_ignore_ascii_case(known))
            })
}

#[cfg(test)]
mod tests;
