//! Names for the algorithms of key files, so that errors can tell what is the matter.

use rustls_pki_types::PrivateKeyDer;

/// An algorithm and the DER encoding of its object identifier, without tag and length.
struct Known {
    oid: &'static [u8],
    name: &'static str,
    supported: bool,
}

const fn known(oid: &'static [u8], name: &'static str, supported: bool) -> Known {
    Known { oid, name, supported }
}

/// Password-based encryption: RFC 7292 appendix C and RFC 8018.
const ENCRYPTION: &[Known] = &[
    known(
        b"\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x01\x01",
        "PBE-SHA1-RC4-128",
        false,
    ),
    known(
        b"\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x01\x02",
        "PBE-SHA1-RC4-40",
        false,
    ),
    known(b"\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x01\x03", "PBE-SHA1-3DES", true),
    known(
        b"\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x01\x04",
        "PBE-SHA1-2DES",
        false,
    ),
    known(
        b"\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x01\x05",
        "PBE-SHA1-RC2-128",
        false,
    ),
    known(
        b"\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x01\x06",
        "PBE-SHA1-RC2-40",
        true,
    ),
    known(b"\x2a\x86\x48\x86\xf7\x0d\x01\x05\x01", "PBE-MD2-DES", false),
    known(b"\x2a\x86\x48\x86\xf7\x0d\x01\x05\x03", "PBE-MD5-DES", false),
    known(b"\x2a\x86\x48\x86\xf7\x0d\x01\x05\x06", "PBE-MD5-RC2-64", false),
    known(b"\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0a", "PBE-SHA1-DES", false),
    known(b"\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0b", "PBE-SHA1-RC2-64", false),
    known(b"\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0e", "PBMAC1", false),
    known(
        b"\x60\x86\x48\x01\x65\x03\x04\x01\x02",
        "PBES2 with AES-128-CBC",
        true,
    ),
    known(
        b"\x60\x86\x48\x01\x65\x03\x04\x01\x16",
        "PBES2 with AES-192-CBC",
        true,
    ),
    known(
        b"\x60\x86\x48\x01\x65\x03\x04\x01\x2a",
        "PBES2 with AES-256-CBC",
        true,
    ),
    known(
        b"\x2a\x86\x48\x86\xf7\x0d\x03\x07",
        "PBES2 with DES-EDE3-CBC",
        true,
    ),
    known(b"\x2b\x0e\x03\x02\x07", "PBES2 with DES-CBC", false),
    known(b"\x2a\x86\x48\x86\xf7\x0d\x03\x02", "PBES2 with RC2-CBC", false),
    // The last one: only named where none of its ciphers is known.
    known(b"\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0d", "PBES2", true),
];

const KEYS: &[Known] = &[
    known(b"\x2a\x86\x48\xce\x38\x04\x01", "DSA", false),
    known(b"\x2b\x65\x71", "Ed448", false),
    known(b"\x2b\x81\x04\x00\x0a", "EC secp256k1", false),
    known(
        b"\x2b\x24\x03\x03\x02\x08\x01\x01\x07",
        "EC brainpoolP256r1",
        false,
    ),
    known(b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a", "RSASSA-PSS", false),
    known(b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01", "RSA", false),
    known(b"\x2a\x86\x48\xce\x3d\x02\x01", "EC", false),
];

/// The first encryption in `der`; object identifiers stand in clear.
pub(super) fn of_encryption(der: &[u8]) -> String {
    let (generic, precise) = ENCRYPTION.split_last().expect("the table is not empty");
    let first = precise
        .iter()
        .filter_map(|known| Some((position(known, der)?, known.name)))
        .min();
    let name = first
        .map(|(_, name)| name)
        .or(position(generic, der).map(|_| generic.name));
    name.unwrap_or("an unknown algorithm").to_owned()
}

/// The first algorithm in `der` that cannot be read, else any of them.
pub(super) fn unsupported_in(der: &[u8]) -> String {
    let unsupported = ENCRYPTION
        .iter()
        .find(|known| !known.supported && occurs(known, der));
    unsupported.map_or_else(|| of_encryption(der), |known| known.name.to_owned())
}

pub(super) fn of_key(key: &PrivateKeyDer<'_>) -> String {
    let der = key.secret_der();
    let name = KEYS
        .iter()
        .find(|known| occurs(known, der))
        .map(|known| known.name);
    name.unwrap_or("unknown algorithm").to_owned()
}

fn occurs(known: &Known, der: &[u8]) -> bool {
    position(known, der).is_some()
}

fn position(known: &Known, der: &[u8]) -> Option<usize> {
    let length = u8::try_from(known.oid.len()).expect("object identifiers of the tables are short");
    let encoded = [&[0x06, length], known.oid].concat();
    memchr::memmem::find(der, &encoded)
}
