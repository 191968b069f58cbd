//! The strict check of HTTP/1 framing in front of hyper.
//!
//! Two parties that disagree about where a message ends can be made to read a smuggled request
//! ([RFC 9112, section 11.2](https://www.rfc-editor.org/rfc/rfc9112#section-11.2)). hyper is lenient: it drops a
//! `Content-Length` beside a `Transfer-Encoding`, merges equal lengths and takes a bare LF. So every HTTP/1 byte
//! stream passes a guard first, which hands on the bytes of messages whose framing it has understood and found
//! strict, and nothing else.
//!
//! # Expected flow
//!
//! ```text
//! application -> RequestGuard  -> TokioIo -> hyper server -> service: handle.begin()
//! target      -> ResponseGuard -> TokioIo -> hyper client <- handle.expect(..) before each request
//! ```
//!
//! # Guarantees
//!
//! - A message is read straight into hyper's buffer and judged there. Only an incomplete head is copied.
//! - The bytes delivered and the decisions do not depend on how the stream is cut into reads.
//! - After a violation nothing more of the stream is delivered. A request whose *head* is refused is replaced by a
//!   harmless one, so that hyper answers it in its turn, after the responses still in flight; the service learns
//!   what was wrong from [`Turn::violation`]. A violation inside a *body* is an I/O error that carries the
//!   [`Violation`], so that neither side takes the message for complete.
//!
//! # Assumptions
//!
//! - hyper's server and client are built with `max_headers(limits.fields)`, the server without `half_close` (the
//!   guard does that part, see [`RequestGuard`]) and without `header_read_timeout` (which would count idle time,
//!   too); both are run `with_upgrades`. Their `max_buf_size` is larger than [`Limits`] let a head become.
//! - The service calls [`RequestHandle::begin`] exactly once per request, before anything else, and keeps the
//!   [`Turn`] until the response's body has ended.

pub mod head;

pub mod body;

pub mod handle;

pub mod request;

pub mod response;

mod inbound;

mod machine;

mod outbound;

#[cfg(test)]
mod script;

#[cfg(any(test, feature = "testing"))]
pub mod corpus;

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

pub use self::handle::{Expected, RequestHandle, ResponseHandle, Turn};
pub use self::head::offers_upgrade;
pub use self::request::{Protocol, RequestGuard};
pub use self::response::ResponseGuard;

/// How large a message's head may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the request target. `http::Uri` holds no more than the default.
    pub target: usize,
    /// Bytes of all field lines together, with their line ends.
    pub head: usize,
    /// Number of field lines.
    pub fields: usize,
}

impl Default for Limits {
    fn default() -> Self {
        // 64 KiB, less the two values that `http::Uri` keeps for itself.
        Self {
            target: 65_534,
            head: 65_536,
            fields: 256,
        }
    }
}

/// How long a client may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// From the last response, or from connecting, to the first byte of a request; then the connection closes.
    pub idle: Duration,
    /// From the first byte of a request to the end of its head; then 408.
    pub head: Duration,
    /// After the client shut its sending side down: how long it may go without a byte of the response. A client
    /// that only half closed waits for its answer, one that has gone must not keep a target busy for ever, and TCP
    /// shows no difference between them.
    pub half_closed: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            idle: Duration::from_mins(1),
            head: Duration::from_secs(30),
            half_closed: Duration::from_secs(5),
        }
    }
}

/// Why a message was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Violation {
    // Answered in a way of their own.
    #[error("TLS on a plain HTTP endpoint")]
    TlsNotSupported,
    #[error("CONNECT is not supported")]
    Connect,
    #[error("request head not complete in time")]
    HeadTimeout,
    #[error("request target too long")]
    TargetTooLong,
    #[error("message head too large")]
    HeadTooLarge,
    #[error("too many fields")]
    TooManyFields,

    // The first line.
    #[error("malformed request line")]
    RequestLine,
    #[error("malformed status line")]
    StatusLine,
    #[error("HTTP version not supported")]
    Version,
    #[error("malformed request target")]
    Target,

    // Lines and fields.
    #[error("line without carriage return")]
    BareLineFeed,
    #[error("carriage return inside a line")]
    BareCarriageReturn,
    #[error("folded field line")]
    ObsFold,
    #[error("white space before the colon")]
    SpaceBeforeColon,
    #[error("invalid field name")]
    FieldName,
    #[error("control character in a field value")]
    FieldValue,
    #[error("Host is missing")]
    MissingHost,
    #[error("more than one Host")]
    SeveralHosts,
    #[error("invalid Host")]
    InvalidHost,

    // The length of the body.
    #[error("both Content-Length and Transfer-Encoding")]
    LengthAndTransferEncoding,
    #[error("more than one Content-Length")]
    SeveralContentLengths,
    #[error("invalid Content-Length")]
    ContentLength,
    #[error("transfer coding other than chunked")]
    TransferEncoding,
    #[error("Transfer-Encoding in HTTP/1.0")]
    TransferEncodingInHttp10,

    // Inside a body.
    #[error("malformed chunk size")]
    ChunkSize,
    #[error("malformed or overlong chunk extension")]
    ChunkExtension,
    #[error("chunk longer than its size")]
    ChunkEnd,
    #[error("malformed or overlong trailer section")]
    Trailer,

    // Responses that nothing asked for.
    #[error("bytes that answer no request")]
    Unsolicited,
    #[error("protocol switched without being asked")]
    UnexpectedUpgrade,
    #[error("too many interim responses")]
    TooManyInterim,
}

impl Violation {
    /// The violation at the root of an error of hyper's (of a request's or response's body, or of a connection).
    pub fn of(error: &(dyn StdError + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(violation) = error.downcast_ref::<Self>() {
                return Some(*violation);
            }
            // The source of a custom `io::Error` is that of the inner error, which would be passed over.
            let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            if let Some(violation) = inner.and_then(|inner| inner.downcast_ref::<Self>()) {
                return Some(*violation);
            }
            next = error.source();
        }
        None
    }
}

impl From<Violation> for io::Error {
    fn from(violation: Violation) -> Self {
        Self::new(io::ErrorKind::InvalidData, violation)
    }
}
