//! Private keys that need a password.

use aes::{Aes128, Aes192, Aes256};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockCipherDecrypt, BlockModeDecrypt, KeyInit, KeyIvInit};
use des::{Des, TdesEde3};
use md5::{Digest, Md5};
use pkcs8::EncryptedPrivateKeyInfoRef;
use rustls_pki_types::PrivateKeyDer;
use zeroize::Zeroizing;

use super::super::{Error, Part, algorithm};
use crate::secret::Secret;

/// `ENCRYPTED PRIVATE KEY`: PKCS#8 with PBES2 (RFC 5958, RFC 8018).
pub(super) fn pkcs8(body: &[u8], password: Option<&Secret>) -> Result<PrivateKeyDer<'static>, Error> {
    let name = algorithm::of_encryption(body);
    let Ok(info) = EncryptedPrivateKeyInfoRef::try_from(body) else {
        return Err(Error::UnsupportedAlgorithm(name));
    };
    if !matches!(
        info.encryption_algorithm,
        pkcs8::pkcs5::EncryptionScheme::Pbes2(_)
    ) {
        return Err(Error::UnsupportedAlgorithm(name));
    }
    let Some(password) = password else {
        return Err(Error::PasswordMissing(name));
    };
    match info.decrypt(password.expose().as_bytes()) {
        Ok(document) => Ok(PrivateKeyDer::Pkcs8(document.as_bytes().to_vec().into())),
        Err(pkcs8::Error::EncryptedPrivateKey(
            pkcs8::pkcs5::Error::UnsupportedAlgorithm { .. }
            | pkcs8::pkcs5::Error::AlgorithmParametersInvalid { .. },
        )) => Err(Error::UnsupportedAlgorithm(name)),
        Err(_) => Err(Error::WrongPassword(name)),
    }
}

/// Body, initialisation vector, password.
type Decrypt = fn(&[u8], &[u8], &str) -> Option<Vec<u8>>;

/// `Proc-Type: 4,ENCRYPTED` with `DEK-Info: <cipher>,<initialisation vector>`.
pub(super) fn dek(
    dek_info: &str,
    body: &[u8],
    password: Option<&Secret>,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let (cipher, iv) = dek_info.split_once(',').unwrap_or((dek_info, ""));
    let decrypt: Decrypt = match cipher {
        "DES-CBC" => decrypt::<Des, 8>,
        "DES-EDE3-CBC" => decrypt::<TdesEde3, 24>,
        "AES-128-CBC" => decrypt::<Aes128, 16>,
        "AES-192-CBC" => decrypt::<Aes192, 24>,
        "AES-256-CBC" => decrypt::<Aes256, 32>,
        _ => return Err(Error::UnsupportedAlgorithm(printable(cipher))),
    };
    let iv = hex(iv)
        .filter(|iv| iv.len() >= 8)
        .ok_or(Error::Malformed(Part::PrivateKey))?;
    let Some(password) = password else {
        return Err(Error::PasswordMissing(cipher.to_owned()));
    };
    match decrypt(body, &iv, password.expose()).map(Zeroizing::new) {
        // With a wrong password the padding fits once in 256 times, the length of the sequence hardly ever.
        Some(key) if is_der_sequence(&key) => Ok(key),
        _ => Err(Error::WrongPassword(cipher.to_owned())),
    }
}

fn decrypt<C, const KEY: usize>(body: &[u8], iv: &[u8], password: &str) -> Option<Vec<u8>>
where
    C: BlockCipherDecrypt + KeyInit,
    cbc::Decryptor<C>: KeyIvInit + BlockModeDecrypt,
{
    let key = derive(password.as_bytes(), &iv[..8], KEY);
    let cipher = cbc::Decryptor::<C>::new_from_slices(&key, iv).ok()?;
    cipher.decrypt_padded_vec::<Pkcs7>(body).ok()
}

/// `EVP_BytesToKey` of OpenSSL with MD5 and one round, the first bytes of the IV as salt:
/// <https://docs.openssl.org/3.0/man3/EVP_BytesToKey/>, <https://docs.openssl.org/3.0/man3/PEM_read_bio_PrivateKey/#pem-encryption-format>.
fn derive(password: &[u8], salt: &[u8], length: usize) -> Zeroizing<Vec<u8>> {
    let mut key = Zeroizing::new(Vec::with_capacity(length + 16));
    let mut block: Vec<u8> = Vec::new();
    while key.len() < length {
        block = Md5::new()
            .chain_update(&block)
            .chain_update(password)
            .chain_update(salt)
            .finalize()
            .to_vec();
        key.extend_from_slice(&block);
    }
    key.truncate(length);
    key
}

fn is_der_sequence(bytes: &[u8]) -> bool {
    let (header, length) = match bytes {
        [0x30, short @ ..=0x7f, ..] => (2, usize::from(*short)),
        [0x30, 0x81, length, ..] => (3, usize::from(*length)),
        [0x30, 0x82, high, low, ..] => (4, usize::from(u16::from_be_bytes([*high, *low]))),
        _ => return false,
    };
    bytes.len() == header + length
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim().as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let pairs = digits.chunks_exact(2).map(|pair| std::str::from_utf8(pair).ok());
    pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}

fn printable(name: &str) -> String {
    name.chars().filter(char::is_ascii_graphic).take(40).collect()
}
