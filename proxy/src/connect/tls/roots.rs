//! Certificate authorities that are trusted.

use std::sync::{Arc, LazyLock};

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use tracing::warn;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The roots of the system, read once.
static DEFAULT: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        warn!(%error, "some root certificates of the system cannot be read");
    }
    let mut roots = RootCertStore::empty();
    let (added, _ignored) = roots.add_parsable_certificates(system.certs);
    if added == 0 {
        warn!("the system has no root certificates: install the package ca-certificates");
    }
    Arc::new(roots)
});

/// The default roots and those of `more` that are authorities.
pub(super) fn with<'a>(more: impl Iterator<Item = &'a CertificateDer<'static>>) -> Arc<RootCertStore> {
    let mut authorities = more.filter(|certificate| is_authority(certificate)).peekable();
    if authorities.peek().is_none() {
        return Arc::clone(&DEFAULT);
    }
    let mut roots = RootCertStore::clone(&DEFAULT);
    roots.add_parsable_certificates(authorities.cloned());
    Arc::new(roots)
}

/// A certificate that may issue others. Version 1 has no extensions to say so
/// (RFC 5280, section 4.2.1.9); one that is self-issued is taken as a root.
fn is_authority(certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return false;
    };
    match parsed.basic_constraints() {
        Ok(Some(constraints)) => constraints.value.ca,
        Ok(None) => parsed.extensions().is_empty() && parsed.subject() == parsed.issuer(),
        Err(_) => false,
    }
}
