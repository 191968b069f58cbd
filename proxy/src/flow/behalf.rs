//! The Destination CR on whose behalf connections are served.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::steps::Steps;

/// What answers and logs name, and what is counted apart from metrics, which know destinations
/// only: several CRs may lead to the same one.
#[derive(Debug)]
pub struct Behalf {
    pub cr_namespace: Arc<str>,
    pub cr: Arc<str>,
    /// The Destination service instance, or what takes its place.
    pub instance: &'static str,
    pub steps: Steps,
    requests: AtomicU64,
    errors: AtomicU64,
}

impl Behalf {
    pub fn new(cr_namespace: Arc<str>, cr: Arc<str>, instance: &'static str) -> Arc<Self> {
        Arc::new(Self {
            cr_namespace,
            cr,
            instance,
            steps: Steps::default(),
            requests: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        })
    }

    /// HTTP requests so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Requests and connections so far that the proxy itself has answered or ended.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    pub(super) fn requested(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failed(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }
}

impl fmt::Display for Behalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.cr_namespace, self.cr)
    }
}
