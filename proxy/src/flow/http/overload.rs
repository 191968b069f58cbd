//! What a connection is told that there is no room for. Nothing of it is read.

use bytes::Bytes;

use super::request_id;
use crate::error::render::{self, Asked};
use crate::error::{Exchange, Names};
use crate::resolve::destination::DestinationName;

/// An answer in HTTP/1.1, which those that begin with HTTP/2 take for the end that it is.
pub fn overloaded(destination: &DestinationName) -> Bytes {
    let answer = render::response(
        &Exchange::Overloaded.into(),
        Asked {
            names: Names::of_destination(destination.as_str()),
            request_id: &request_id::new(),
            head: false,
            grpc: false,
        },
    );
    render::as_http1(&answer)
}
