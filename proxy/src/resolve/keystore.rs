//! Key stores and trust stores: PEM, DER and PKCS#12, from bytes to certificates and keys.

mod algorithm;
mod pem;
mod pkcs12;

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tracing::warn;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// Certificates that are trusted beside the default roots.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CertificateStore(pub Vec<CertificateDer<'static>>);

impl fmt::Debug for CertificateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} certificates", self.0.len())
    }
}

/// A client certificate with its chain (leaf first) and private key.
#[derive(Clone)]
pub struct ClientIdentity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: Arc<PrivateKeyDer<'static>>,
    /// CA certificates of the key store: servers are verified with them too.
    pub authorities: CertificateStore,
}

impl PartialEq for ClientIdentity {
    fn eq(&self, other: &Self) -> bool {
        self.chain == other.chain
            && self.authorities == other.authorities
            && self.key.secret_der() == other.key.secret_der()
    }
}

impl Eq for ClientIdentity {}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client identity, chain of {}", self.chain.len())
    }
}

/// Why a key store or trust store cannot be used. The texts never contain a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(
        "it is a Java key store (JKS); convert it with \"keytool -importkeystore -srckeystore FILE \
         -destkeystore FILE.p12 -deststoretype pkcs12\""
    )]
    JavaKeyStore,
    #[error("it is not PEM, DER or PKCS#12")]
    UnknownFormat,
    #[error("its {0} cannot be read")]
    Malformed(Part),
    #[error("it contains no certificate")]
    NoCertificate,
    #[error("it contains no private key")]
    NoPrivateKey,
    #[error("none of its certificates belongs to its private key")]
    KeyMismatch,
    #[error("its private key is of an unsupported kind ({0})")]
    UnsupportedKey(String),
    #[error("it is encrypted with {0}, and no password is configured")]
    PasswordMissing(String),
    #[error("its password is wrong ({0})")]
    WrongPassword(String),
    #[error("it is protected with {0}, which is not supported")]
    UnsupportedAlgorithm(String),
}

/// The part of a file that an [`Error`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Pem,
    Certificate,
    PrivateKey,
    Pkcs12,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pem => "PEM encoding",
            Self::Certificate => "certificate",
            Self::PrivateKey => "private key",
            Self::Pkcs12 => "PKCS#12 structure (DER encoding is required)",
        })
    }
}

/// How the file of a store is called.
#[derive(Debug, Clone, Copy)]
pub struct FileName<'a> {
    /// Its extension tells the format where the content does not.
    pub name: &'a str,
    /// In logs, where the name may be a secret, or none at all.
    pub shown: &'a str,
}

/// The client certificate, its chain and its key, from a key store file. An expired
/// certificate is used all the same, with a warning: the target decides.
pub fn load_client_identity(
    file: FileName<'_>,
    bytes: &[u8],
    password: Option<&Secret>,
) -> Result<ClientIdentity, Error> {
    let contents = read(file.name, bytes, password)?;
    let identity = contents.into_identity()?;
    if let Ok((_, leaf)) = X509Certificate::from_der(&identity.chain[0])
        && !leaf.validity().is_valid()
    {
        warn!(file = file.shown, not_after = %leaf.validity().not_after, "client certificate is not valid now");
    }
    Ok(identity)
}

/// The certificates of a trust store file, without those that have expired.
pub fn load_trust_store(
    file: FileName<'_>,
    bytes: &[u8],
    password: Option<&Secret>,
) -> Result<CertificateStore, Error> {
    let contents = Contents {
        keys: Vec::new(),
        ..read_certificates(file.name, bytes, password)?
    };
    if contents.certificates.is_empty() {
        return Err(Error::NoCertificate);
    }
    let mut trusted = Vec::new();
    for certificate in contents.certificates {
        let parsed = parse(&certificate)?;
        if parsed.validity().not_after < x509_parser::time::ASN1Time::now() {
            warn!(file = file.shown, subject = %parsed.subject(), "expired certificate of a trust store is skipped");
        } else if !trusted.contains(&certificate) {
            trusted.push(certificate);
        }
    }
    Ok(CertificateStore(trusted))
}

/// Everything of use in a file, in its order.
#[derive(Default)]
struct Contents {
    certificates: Vec<CertificateDer<'static>>,
    keys: Vec<PrivateKeyDer<'static>>,
}

fn read(file_name: &str, bytes: &[u8], password: Option<&Secret>) -> Result<Contents, Error> {
    match Format::of(file_name, bytes)? {
        Format::Pem => pem::read(bytes, password, pem::Keys::Decrypt),
        Format::Pkcs12 => pkcs12::read(bytes, password),
        Format::Der => read_der(bytes),
        Format::Base64(decoded) => read(file_name, &decoded, password),
    }
}

/// Like [`read`], but encrypted PEM keys do not matter.
fn read_certificates(file_name: &str, bytes: &[u8], password: Option<&Secret>) -> Result<Contents, Error> {
    match Format::of(file_name, bytes)? {
        Format::Pem => pem::read(bytes, password, pem::Keys::Skip),
        Format::Pkcs12 | Format::Der => read(file_name, bytes, password),
        Format::Base64(decoded) => read_certificates(file_name, &decoded, password),
    }
}

/// One or more certificates, one after the other.
fn read_der(bytes: &[u8]) -> Result<Contents, Error> {
    let mut contents = Contents::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        let Ok((after, _)) = X509Certificate::from_der(rest) else {
            return Err(Error::Malformed(Part::Certificate));
        };
        let length = rest.len() - after.len();
        contents.certificates.push(rest[..length].to_vec().into());
        rest = after;
    }
    Ok(contents)
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    match X509Certificate::from_der(certificate) {
        Ok((_, parsed)) => Ok(parsed),
        Err(_) => Err(Error::Malformed(Part::Certificate)),
    }
}

enum Format {
    Pem,
    Der,
    Pkcs12,
    /// Base64 without the lines of PEM, decoded.
    Base64(Zeroizing<Vec<u8>>),
}

impl Format {
    /// The content decides wherever it is unambiguous: files are often misnamed.
    fn of(file_name: &str, bytes: &[u8]) -> Result<Self, Error> {
        const JKS: &[u8] = &[0xfe, 0xed, 0xfe, 0xed];
        const JCEKS: &[u8] = &[0xce, 0xce, 0xce, 0xce];
        if bytes.starts_with(JKS) || bytes.starts_with(JCEKS) {
            return Err(Error::JavaKeyStore);
        }
        if memchr::memmem::find(bytes, b"-----BEGIN ").is_some() {
            return Ok(Self::Pem);
        }
        if bytes.first() == Some(&0x30) {
            return Ok(if is_pfx(bytes) { Self::Pkcs12 } else { Self::Der });
        }
        if let Some(decoded) = unwrap_base64(bytes) {
            return Ok(Self::Base64(decoded));
        }
        let extension = file_name
            .rsplit_once('.')
            .map(|(_, extension)| extension.to_ascii_lowercase());
        match extension.as_deref() {
            Some("jks" | "jceks") => Err(Error::JavaKeyStore),
            Some("p12" | "pfx") => Err(Error::Malformed(Part::Pkcs12)),
            Some("der") => Err(Error::Malformed(Part::Certificate)),
            Some("pem") => Err(Error::Malformed(Part::Pem)),
            _ => Err(Error::UnknownFormat),
        }
    }
}

/// `PFX ::= SEQUENCE { version INTEGER {v3(3)}, …` (RFC 7292, section 4).
fn is_pfx(der: &[u8]) -> bool {
    let header = match der.get(1) {
        Some(&length) if length <= 0x80 => 2,
        Some(&length) => 2 + usize::from(length & 0x7f),
        None => return false,
    };
    der.get(header..)
        .is_some_and(|content| content.starts_with(&[0x02, 0x01, 0x03]))
}

fn unwrap_base64(bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let packed: Zeroizing<Vec<u8>> = Zeroizing::new(
        bytes
            .iter()
            .copied()
            .filter(|byte| !byte.is_ascii_whitespace())
            .collect(),
    );
    let decoded = Zeroizing::new(STANDARD.decode(&*packed).ok()?);
    // Only what can be DER: this also ends the recursion.
    (decoded.first() == Some(&0x30)).then_some(decoded)
}

impl Contents {
    /// The leaf is the certificate that belongs to the key; its issuers follow.
    fn into_identity(self) -> Result<ClientIdentity, Error> {
        if self.keys.is_empty() {
            return Err(Error::NoPrivateKey);
        }
        if self.certificates.is_empty() {
            return Err(Error::NoCertificate);
        }
        let mut problem = Error::KeyMismatch;
        for key in self.keys {
            let Some(public_key) = public_key(&key) else {
                problem = Error::UnsupportedKey(algorithm::of_key(&key));
                continue;
            };
            if let Some(leaf) = leaf_for(&self.certificates, &public_key)? {
                let chain = chain_from(leaf, &self.certificates)?;
                let authorities = authorities(&self.certificates, leaf)?;
                return Ok(ClientIdentity {
                    chain,
                    key: Arc::new(key),
                    authorities,
                });
            }
        }
        Err(problem)
    }
}

fn public_key(key: &PrivateKeyDer<'_>) -> Option<Vec<u8>> {
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(key).ok()?;
    key.public_key().map(|spki| spki.to_vec())
}

fn leaf_for<'a>(
    certificates: &'a [CertificateDer<'static>],
    public_key: &[u8],
) -> Result<Option<&'a CertificateDer<'static>>, Error> {
    for certificate in certificates {
        if parse(certificate)?.public_key().raw == public_key {
            return Ok(Some(certificate));
        }
    }
    Ok(None)
}

/// From `leaf` upwards; a root is left out, as RFC 8446, section 4.4.2 suggests.
fn chain_from(
    leaf: &CertificateDer<'static>,
    certificates: &[CertificateDer<'static>],
) -> Result<Vec<CertificateDer<'static>>, Error> {
    let mut chain = vec![leaf.clone()];
    loop {
        let last = chain.last().expect("the chain starts with the leaf");
        let issuer = parse(last)?.issuer().as_raw().to_vec();
        let mut next = None;
        for candidate in certificates {
            let parsed = parse(candidate)?;
            let is_root = parsed.subject() == parsed.issuer();
            if parsed.subject().as_raw() == issuer && !is_root && !chain.contains(candidate) {
                next = Some(candidate.clone());
                break;
            }
        }
        match next {
            Some(certificate) => chain.push(certificate),
            None => return Ok(chain),
        }
    }
}

fn authorities(
    certificates: &[CertificateDer<'static>],
    leaf: &CertificateDer<'static>,
) -> Result<CertificateStore, Error> {
    let mut authorities = Vec::new();
    for certificate in certificates {
        if certificate != leaf && parse(certificate)?.is_ca() && !authorities.contains(certificate) {
            authorities.push(certificate.clone());
        }
    }
    Ok(CertificateStore(authorities))
}

#[cfg(test)]
mod tests;
