//! Authorities that are trusted beside others, and may change at any time.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::resolve::keystore::CertificateStore;

/// Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Authorities(Arc<ArcSwap<CertificateStore>>);

impl Authorities {
    pub fn now(&self) -> Arc<CertificateStore> {
        self.0.load_full()
    }

    /// What was trusted before is not any more, but for connections that are open.
    pub fn replace(&self, store: CertificateStore) {
        self.0.store(Arc::new(store));
    }
}

impl From<CertificateStore> for Authorities {
    fn from(store: CertificateStore) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(store)))
    }
}
