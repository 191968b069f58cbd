//! What can go wrong, and what the application is told about it.

pub mod catalogue;
pub mod render;

use std::time::Duration;

use http::HeaderName;

use crate::{connect, credentials, framing};

/// Everything that ends a request without an answer of the target: one variant per stage.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Connect(#[from] connect::Error),
    #[error(transparent)]
    Credentials(#[from] credentials::Error),
    #[error(transparent)]
    Framing(#[from] framing::Violation),
    #[error(transparent)]
    Exchange(#[from] Exchange),
}

/// What goes wrong between the request's head and the answer's.
#[derive(Debug, thiserror::Error)]
pub enum Exchange {
    /// The listener belongs to no destination (any more).
    #[error("no destination is configured here")]
    NoDestination,
    #[error("CONNECT is not supported")]
    MethodNotAllowed,
    /// Fields that decide about the request and may occur only once.
    #[error("repeated header fields: {0:?}")]
    RepeatedHeaders(Vec<HeaderName>),
    /// Base path, path and queries together are not a valid request target.
    #[error("the request target cannot be sent to the target system")]
    InvalidRequestTarget,
    /// The application's connection or body broke off before the target answered.
    #[error("the request body broke off")]
    RequestBody(#[source] hyper::Error),
    /// No answer within the destination's read timeout.
    #[error("no answer within {} s", .0.as_secs())]
    NotAnswering(Duration),
    #[error("the target's answer is not valid HTTP")]
    InvalidResponse(#[source] hyper::Error),
    #[error("the target closed the connection before it answered")]
    ClosedBeforeResponse(#[source] Option<hyper::Error>),
}
