//! What can go wrong, and what the application is told about it.

pub mod catalogue;
pub mod render;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use crate::{connect, credentials, framing, resolve};

/// Everything that ends a request without an answer of the target: one variant per stage.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Resolve(#[from] resolve::Error),
    #[error(transparent)]
    Connect(#[from] connect::Error),
    #[error(transparent)]
    Credentials(#[from] credentials::Error),
    #[error(transparent)]
    Framing(#[from] framing::Violation),
    #[error(transparent)]
    Exchange(#[from] Exchange),
}

/// Whom an error is about, for its message.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    pub destination: &'a str,
    /// The Destination CR; the destination itself where there are none.
    pub cr: &'a str,
    /// Of the destination; instances without tenants put their own name here.
    pub tenant: &'a str,
    /// The Destination service instance, or what takes its place.
    pub instance: &'a str,
}

impl<'a> Names<'a> {
    /// Where nothing but the destination has a name.
    pub fn of_destination(destination: &'a str) -> Self {
        Self {
            destination,
            cr: destination,
            tenant: "",
            instance: "",
        }
    }
}

/// What goes wrong between the request's head and the answer's.
#[derive(Debug, thiserror::Error)]
pub enum Exchange {
    /// The destination is there, but what it says cannot be put into practice.
    #[error("the destination cannot be used")]
    Unusable(#[source] Arc<dyn std::error::Error + Send + Sync>),
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
    /// A connection over a limit, whatever its requests would have been.
    #[error("there is no room for another connection")]
    Overloaded,
    #[error("the target closed the connection before it answered")]
    ClosedBeforeResponse(#[source] Option<hyper::Error>),
}
