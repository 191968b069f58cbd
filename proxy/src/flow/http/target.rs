//! The request target: base path, the application's path and query, configured queries.

use bytes::{BufMut, Bytes, BytesMut};
use http::Uri;
use http::uri::PathAndQuery;

use crate::error::Exchange;
use crate::resolve::destination::HttpDestination;
use crate::secret::Secret;

/// What a destination puts around the application's path and query.
pub(super) struct Target {
    /// The base path as configured, for requests to `/`.
    whole: String,
    /// The base path without its last `/`, in front of all other paths.
    base: String,
    /// Query of the destination's URL.
    query: Option<String>,
    /// `URL.queries.*`
    added: Secret,
}

impl Target {
    pub(super) fn new(destination: &HttpDestination) -> Self {
        let whole = destination.url.path.clone();
        Self {
            base: whole.strip_suffix('/').unwrap_or(&whole).to_owned(),
            whole,
            query: destination.url.query.clone(),
            added: destination.queries.clone(),
        }
    }

    /// Appends what the application asked for, byte for byte: nothing is decoded or normalised.
    pub(super) fn join(&self, asked: &Uri) -> Result<PathAndQuery, Exchange> {
        if self.adds_nothing()
            && let Some(same) = asked.path_and_query()
            && same.as_str().starts_with('/')
        {
            return Ok(same.clone());
        }
        PathAndQuery::from_maybe_shared(self.joined(asked)).map_err(|_invalid| Exchange::InvalidRequestTarget)
    }

    fn adds_nothing(&self) -> bool {
        self.base.is_empty() && self.query.is_none() && self.added.is_empty()
    }

    fn joined(&self, asked: &Uri) -> Bytes {
        let (path, query) = (asked.path(), asked.query());
        let length = self.whole.len()
            + path.len()
            + query.map_or(0, str::len)
            + self.query.as_ref().map_or(0, String::len)
            + self.added.expose().len()
            + "?&&".len();
        let mut target = BytesMut::with_capacity(length);
        self.put_path(&mut target, path);
        self.put_query(&mut target, query);
        target.freeze()
    }

    fn put_path(&self, target: &mut BytesMut, path: &str) {
        match path {
            // RFC 9112, section 3.2.4: the last proxy turns an empty path into `*` again.
            "*" if self.whole.is_empty() => target.put_slice(b"*"),
            "/" | "*" => {
                target.put_slice(if self.whole.is_empty() {
                    b"/"
                } else {
                    self.whole.as_bytes()
                });
            }
            path => {
                target.put_slice(self.base.as_bytes());
                target.put_slice(path.as_bytes());
            }
        }
    }

    fn put_query(&self, target: &mut BytesMut, asked: Option<&str>) {
        let mut separator = b'?';
        for part in [
            self.query.as_deref().unwrap_or(""),
            asked.unwrap_or(""),
            self.added.expose(),
        ] {
            if !part.is_empty() {
                target.put_u8(separator);
                target.put_slice(part.as_bytes());
                separator = b'&';
            }
        }
        if separator == b'?' && asked.is_some() {
            target.put_u8(b'?');
        }
    }
}

#[cfg(test)]
mod tests;
