//! Calls to token services, shared by all destinations.

use std::sync::Arc;

use super::Error;
use super::oauth2::Grant;
use super::token_cache::Entry;
use crate::connect::Dialer;
use crate::resolve::destination::{DestinationName, OAuth2Client};
use crate::resolve::keystore::CertificateStore;

/// Fetches tokens and keeps them; one per process.
pub struct TokenService {
    _dialer: Arc<dyn Dialer>,
    _extra_roots: CertificateStore,
}

impl TokenService {
    /// `extra_roots` are trusted beside the default roots and those of the destination.
    pub fn new(dialer: Arc<dyn Dialer>, extra_roots: CertificateStore) -> Arc<Self> {
        Arc::new(Self {
            _dialer: dialer,
            _extra_roots: extra_roots,
        })
    }

    pub(super) fn entry(
        self: &Arc<Self>,
        _name: &DestinationName,
        _client: &Arc<OAuth2Client>,
        _grant: Grant,
    ) -> Result<Arc<Entry>, Error> {
        Err(Error::Cancelled)
    }
}
