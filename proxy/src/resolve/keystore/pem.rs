//! PEM files: several certificates and keys in any order (RFC 7468), and the
//! encrypted keys of old OpenSSL releases (RFC 1421, section 4.6).

mod encrypted;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::PrivateKeyDer;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use super::{Contents, Error, Part};
use crate::secret::Secret;

/// What to do with private keys.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    Decrypt,
    Skip,
}

struct Section {
    label: String,
    /// `DEK-Info`: cipher and initialisation vector.
    dek_info: Option<String>,
    body: Zeroizing<Vec<u8>>,
}

pub(super) fn read(bytes: &[u8], password: Option<&Secret>, keys: Keys) -> Result<Contents, Error> {
    let mut contents = Contents::default();
    for section in sections(bytes)? {
        match section.label.as_str() {
            "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE" => {
                contents.certificates.push(certificate(&section.body)?.into());
            }
            label if label.ends_with("PRIVATE KEY") && keys == Keys::Decrypt => {
                contents.keys.push(private_key(section, password)?);
            }
            // Parameters, public keys, revocation lists …
            _ => {}
        }
    }
    Ok(contents)
}

/// `TRUSTED CERTIFICATE` has OpenSSL's own data behind the certificate.
fn certificate(body: &[u8]) -> Result<Vec<u8>, Error> {
    match X509Certificate::from_der(body) {
        Ok((rest, _)) => Ok(body[..body.len() - rest.len()].to_vec()),
        Err(_) => Err(Error::Malformed(Part::Certificate)),
    }
}

fn private_key(section: Section, password: Option<&Secret>) -> Result<PrivateKeyDer<'static>, Error> {
    let Section {
        label,
        dek_info,
        body,
    } = section;
    if label == "ENCRYPTED PRIVATE KEY" {
        return encrypted::pkcs8(&body, password);
    }
    let body = match dek_info {
        Some(dek_info) => encrypted::dek(&dek_info, &body, password)?,
        None => body,
    };
    match label.as_str() {
        "RSA PRIVATE KEY" => Ok(PrivateKeyDer::Pkcs1(body.to_vec().into())),
        "EC PRIVATE KEY" => Ok(PrivateKeyDer::Sec1(body.to_vec().into())),
        "PRIVATE KEY" => Ok(PrivateKeyDer::Pkcs8(body.to_vec().into())),
        _ => Err(Error::UnsupportedKey(label)),
    }
}

fn sections(bytes: &[u8]) -> Result<Vec<Section>, Error> {
    let text = Zeroizing::new(String::from_utf8_lossy(bytes).into_owned());
    let mut lines = text.lines().map(str::trim);
    let mut sections = Vec::new();
    while let Some(line) = lines.next() {
        let Some(label) = line
            .strip_prefix("-----BEGIN ")
            .and_then(|rest| rest.strip_suffix("-----"))
        else {
            continue;
        };
        sections.push(section(label, &mut lines)?);
    }
    Ok(sections)
}

fn section<'a>(label: &str, lines: &mut impl Iterator<Item = &'a str>) -> Result<Section, Error> {
    let mut dek_info = None;
    let mut encoded = Zeroizing::new(String::new());
    for line in lines {
        if let Some(end) = line.strip_prefix("-----END ") {
            if end.strip_suffix("-----") != Some(label) {
                break;
            }
            let body = STANDARD
                .decode(encoded.as_bytes())
                .map_err(|_undecodable| Error::Malformed(Part::Pem))?;
            return Ok(Section {
                label: label.to_owned(),
                dek_info,
                body: Zeroizing::new(body),
            });
        }
        match line.split_once(':') {
            Some(("DEK-Info", value)) => dek_info = Some(value.trim().to_owned()),
            Some(_) => {}
            None => encoded.push_str(line),
        }
    }
    Err(Error::Malformed(Part::Pem))
}
