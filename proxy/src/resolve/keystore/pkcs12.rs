//! PKCS#12 files (RFC 7292), modern and old ones.

use p12_keystore::Pkcs12Archive;
use p12_keystore::error::Error as Pkcs12Error;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{Contents, Error, Part, algorithm};
use crate::secret::Secret;

/// An absent password is read as an empty one; files without any protection do not look at it.
pub(super) fn read(bytes: &[u8], password: Option<&Secret>) -> Result<Contents, Error> {
    let text = password.map_or("", Secret::expose);
    let archive = match Pkcs12Archive::from_pkcs12(bytes, text) {
        Ok(archive) => archive,
        Err(error) => return Err(explain(&error, bytes, password)),
    };
    let certificates = archive
        .certs
        .iter()
        .map(|bag| CertificateDer::from(bag.cert.as_der().to_vec()));
    let keys = archive
        .keys
        .iter()
        .map(|bag| PrivateKeyDer::Pkcs8(bag.key.as_der().to_vec().into()));
    Ok(Contents {
        certificates: certificates.collect(),
        keys: keys.collect(),
    })
}

fn explain(error: &Pkcs12Error, bytes: &[u8], password: Option<&Secret>) -> Error {
    match error {
        Pkcs12Error::MacError(_) | Pkcs12Error::UnpadError | Pkcs12Error::Pkcs5Error(_) => {
            let name = algorithm::of_encryption(bytes);
            match password {
                Some(_) => Error::WrongPassword(name),
                None => Error::PasswordMissing(name),
            }
        }
        Pkcs12Error::UnsupportedEncryptionScheme
        | Pkcs12Error::UnsupportedMacAlgorithm
        | Pkcs12Error::InvalidParameters => Error::UnsupportedAlgorithm(algorithm::unsupported_in(bytes)),
        Pkcs12Error::InvalidPrivateKey => Error::Malformed(Part::PrivateKey),
        Pkcs12Error::UnsupportedCertificateType | Pkcs12Error::X509Error(_) => {
            Error::Malformed(Part::Certificate)
        }
        Pkcs12Error::IoError(_)
        | Pkcs12Error::DerError(_)
        | Pkcs12Error::InvalidVersion
        | Pkcs12Error::UnsupportedContentType
        | Pkcs12Error::InvalidLength
        | Pkcs12Error::InvalidData => Error::Malformed(Part::Pkcs12),
    }
}
