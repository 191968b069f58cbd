//! From errors of rustls to the classes that users see.

use std::io;

use rustls::{AlertDescription, CertificateError, Error as TlsError};

use crate::connect::{Error, TlsFailure};

/// Why a handshake failed.
pub(super) fn handshake(error: io::Error, certificate_requested: bool) -> Error {
    if let Some(error) = inner(&error) {
        return Error::Tls(of(error, certificate_requested));
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::Tls(TlsFailure::Closed),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Error::Reset(error),
        _ => Error::Io(error),
    }
}

/// What a failed read or write says about TLS. With TLS 1.3 a refused client
/// certificate is only seen here, after the handshake (RFC 8446, section 4.4.2.4).
/// `None`: it is not about TLS.
pub fn classify_io(error: &io::Error) -> Option<TlsFailure> {
    inner(error).map(|error| of(error, false))
}

fn inner(error: &io::Error) -> Option<&TlsError> {
    error.get_ref()?.downcast_ref()
}

fn of(error: &TlsError, certificate_requested: bool) -> TlsFailure {
    match error {
        TlsError::InvalidCertificate(error) => of_certificate(error),
        TlsError::AlertReceived(alert) => of_alert(*alert, certificate_requested),
        _ => TlsFailure::Protocol,
    }
}

fn of_certificate(error: &CertificateError) -> TlsFailure {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsFailure::CertificateExpired,
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            TlsFailure::CertificateWithoutSan
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            TlsFailure::CertificateNameMismatch
        }
        _ => TlsFailure::CertificateNotTrusted,
    }
}

/// Alerts about certificates can only mean ours: it is the server that sends them.
fn of_alert(alert: AlertDescription, certificate_requested: bool) -> TlsFailure {
    match alert {
        AlertDescription::CertificateRequired
        | AlertDescription::NoCertificate
        | AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied => TlsFailure::ClientCertificate,
        AlertDescription::HandshakeFailure if certificate_requested => TlsFailure::ClientCertificate,
        _ => TlsFailure::Protocol,
    }
}
