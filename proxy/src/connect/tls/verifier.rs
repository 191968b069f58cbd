//! Verification of server certificates as destinations configure it.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{names, roots};
use crate::resolve::destination::{HostnameVerifier, TlsPolicy};
use crate::resolve::keystore::CertificateStore;

pub(super) fn for_policy(
    policy: &TlsPolicy,
    extra_roots: &CertificateStore,
    provider: &CryptoProvider,
) -> Arc<dyn ServerCertVerifier> {
    let algorithms = provider.signature_verification_algorithms;
    if policy.trust_all {
        return Arc::new(TrustAll { algorithms });
    }
    let identity = policy.client_identity.as_ref();
    let of_identity = identity
        .map(|identity| &*identity.authorities.0)
        .unwrap_or_default();
    Arc::new(Verifier {
        roots: roots::with(
            policy
                .trust_store
                .0
                .iter()
                .chain(of_identity)
                .chain(&extra_roots.0),
        ),
        exact: policy.trust_store.0.iter().cloned().collect(),
        names: policy.hostname_verifier,
        algorithms,
    })
}

/// Chain and name are verified.
#[derive(Debug)]
struct Verifier {
    roots: Arc<RootCertStore>,
    /// Trusted as they are, without a chain: self-signed servers mostly.
    exact: HashSet<CertificateDer<'static>>,
    names: HostnameVerifier,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn verify_chain(
        &self,
        end_entity: &CertificateDer<'_>,
        parsed: &ParsedCertificate<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        if self.exact.contains(end_entity) {
            return verify_validity(end_entity, now);
        }
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(parsed, &self.roots, intermediates, now, algorithms)
    }

    fn verify_name(
        &self,
        end_entity: &CertificateDer<'_>,
        parsed: &ParsedCertificate<'_>,
        server_name: &ServerName<'_>,
    ) -> Result<(), Error> {
        let strict = verify_server_name(parsed, server_name);
        match (self.names, server_name) {
            (HostnameVerifier::BrowserCompatible, ServerName::DnsName(name))
                if strict.is_err() && names::browser_compatible(end_entity, name.as_ref()) =>
            {
                Ok(())
            }
            (HostnameVerifier::BrowserCompatible, ServerName::IpAddress(address))
                if strict.is_err() && names::common_name_is(end_entity, IpAddr::from(*address)) =>
            {
                Ok(())
            }
            _ => strict,
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        self.verify_chain(end_entity, &parsed, intermediates, now)?;
        self.verify_name(end_entity, &parsed, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn verify_validity(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return Err(CertificateError::BadEncoding.into());
    };
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = parsed.validity();
    if now > validity.not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    if now < validity.not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    Ok(())
}

/// `TrustAll`: whoever answers is believed. Signatures are not looked at either:
/// checking them would prove nothing, and fail for keys and certificate versions
/// that only old servers have.
#[derive(Debug)]
struct TrustAll {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for TrustAll {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
