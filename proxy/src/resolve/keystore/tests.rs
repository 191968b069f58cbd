use super::*;

macro_rules! fixture {
    ($name:literal) => {
        ($name, include_bytes!(concat!("fixtures/", $name)).as_slice())
    };
}

type Fixture = (&'static str, &'static [u8]);

fn called(name: &str) -> FileName<'_> {
    FileName { name, shown: name }
}

fn identity((name, bytes): Fixture, password: Option<&str>) -> Result<ClientIdentity, Error> {
    load_client_identity(called(name), bytes, password.map(Secret::from).as_ref())
}

fn trusted((name, bytes): Fixture, password: Option<&str>) -> Result<CertificateStore, Error> {
    load_trust_store(called(name), bytes, password.map(Secret::from).as_ref())
}

/// Common names, leaf first.
fn names(certificates: &[CertificateDer<'static>]) -> Vec<String> {
    let subject = |certificate| parse(certificate).expect("fixture").subject().to_string();
    certificates.iter().map(subject).collect()
}

fn assert_rsa_client(identity: &ClientIdentity) {
    assert_eq!(names(&identity.chain)[0], "CN=client");
    assert!(public_key(&identity.key).is_some(), "the key can be used");
}

#[test]
fn encrypted_pkcs1_keys_of_every_documented_cipher_open() {
    let files = [
        fixture!("dek-des.pem"),
        fixture!("dek-des3.pem"),
        fixture!("dek-aes128.pem"),
        fixture!("dek-aes192.pem"),
        fixture!("dek-aes256.pem"),
    ];
    for file in files {
        let identity = identity(file, Some("secret")).expect(file.0);
        assert_rsa_client(&identity);
        assert_eq!(names(&identity.chain), ["CN=client", "CN=Test Intermediate"]);
        assert_eq!(
            names(&identity.authorities.0),
            ["CN=Test Root", "CN=Test Intermediate"]
        );
    }
}

#[test]
fn encrypted_pkcs8_keys_open() {
    assert_rsa_client(&identity(fixture!("pbes2.pem"), Some("secret")).expect("PBES2 with AES"));
    assert_rsa_client(&identity(fixture!("pbes2-des3.pem"), Some("secret")).expect("PBES2 with 3DES"));
}

#[test]
fn unencrypted_keys_of_every_kind_open_whatever_the_password() {
    for password in [None, Some(""), Some("unused")] {
        assert_rsa_client(&identity(fixture!("pkcs1.pem"), password).expect("PKCS#1"));
        assert_rsa_client(&identity(fixture!("pkcs8.pem"), password).expect("PKCS#8"));
        let sec1 = identity(fixture!("sec1.pem"), password).expect("SEC1");
        assert_eq!(names(&sec1.chain), ["CN=ec-client"]);
    }
}

#[test]
fn the_leaf_is_the_certificate_of_the_key_wherever_it_stands() {
    let identity = identity(fixture!("pkcs8.pem"), None).expect("readable");
    assert_eq!(names(&identity.chain), ["CN=client", "CN=Test Intermediate"]);
}

#[test]
fn pkcs12_files_of_old_and_new_tools_open() {
    let files = [
        fixture!("rc2-40.p12"),
        fixture!("3des.p12"),
        fixture!("aes.p12"),
        fixture!("aes-128.p12"),
    ];
    for file in files {
        let identity = identity(file, Some("secret")).expect(file.0);
        assert_rsa_client(&identity);
        assert_eq!(names(&identity.chain), ["CN=client", "CN=Test Intermediate"]);
        assert_eq!(
            names(&identity.authorities.0),
            ["CN=Test Intermediate", "CN=Test Root"]
        );
    }
}

#[test]
fn pkcs12_files_with_an_empty_or_no_password_open() {
    for password in [None, Some("")] {
        for file in [
            fixture!("empty-password.p12"),
            fixture!("empty-password-old.p12"),
            fixture!("no-password.p12"),
        ] {
            assert_rsa_client(&identity(file, password).expect(file.0));
        }
    }
}

#[test]
fn a_wrong_password_is_said_with_the_algorithm() {
    let wrong = |file| {
        identity(file, Some("wrong-hunter2"))
            .expect_err("the password is wrong")
            .to_string()
    };
    assert_eq!(
        wrong(fixture!("dek-aes256.pem")),
        "its password is wrong (AES-256-CBC)"
    );
    assert_eq!(wrong(fixture!("dek-des.pem")), "its password is wrong (DES-CBC)");
    assert_eq!(
        wrong(fixture!("pbes2.pem")),
        "its password is wrong (PBES2 with AES-256-CBC)"
    );
    assert_eq!(
        wrong(fixture!("rc2-40.p12")),
        "its password is wrong (PBE-SHA1-RC2-40)"
    );
    assert_eq!(
        wrong(fixture!("3des.p12")),
        "its password is wrong (PBE-SHA1-3DES)"
    );
    assert_eq!(
        wrong(fixture!("aes.p12")),
        "its password is wrong (PBES2 with AES-256-CBC)"
    );
}

#[test]
fn a_missing_password_is_said_with_the_algorithm() {
    let missing = |file| {
        identity(file, None)
            .expect_err("there is no password")
            .to_string()
    };
    assert_eq!(
        missing(fixture!("dek-des3.pem")),
        "it is encrypted with DES-EDE3-CBC, and no password is configured"
    );
    assert_eq!(
        missing(fixture!("aes.p12")),
        "it is encrypted with PBES2 with AES-256-CBC, and no password is configured"
    );
}

#[test]
fn unsupported_protection_is_named() {
    let named = |file| {
        identity(file, Some("secret"))
            .expect_err("unsupported")
            .to_string()
    };
    assert_eq!(
        named(fixture!("dek-camellia.pem")),
        "it is protected with CAMELLIA-128-CBC, which is not supported"
    );
    assert_eq!(
        named(fixture!("pbes1.pem")),
        "it is protected with PBE-MD5-DES, which is not supported"
    );
    assert_eq!(
        named(fixture!("rc4.p12")),
        "it is protected with PBE-SHA1-RC4-128, which is not supported"
    );
    assert_eq!(
        named(fixture!("unsupported.pem")),
        "its private key is of an unsupported kind (EC secp256k1)"
    );
}

#[test]
fn a_java_key_store_is_refused_with_the_way_out() {
    let error = identity(fixture!("store.jks"), Some("secret1")).expect_err("JKS");
    assert_eq!(error, Error::JavaKeyStore);
    assert!(error.to_string().contains("keytool -importkeystore"));
    assert_eq!(trusted(("garbage.jks", b"?"), None), Err(Error::JavaKeyStore));
}

#[test]
fn the_content_decides_where_the_extension_lies() {
    let (_, pem) = fixture!("pkcs1.pem");
    assert_rsa_client(&identity(("store.p12", pem), None).expect("PEM in .p12"));
    let (_, p12) = fixture!("aes.p12");
    assert_rsa_client(&identity(("store.pem", p12), Some("secret")).expect("PKCS#12 in .pem"));
    let wrapped = STANDARD
        .encode(p12)
        .into_bytes()
        .chunks(64)
        .collect::<Vec<_>>()
        .join(b"\r\n".as_slice());
    let identity = load_client_identity(called("store.p12"), &wrapped, Some(&"secret".into()));
    assert_rsa_client(&identity.expect("PKCS#12 in base64"));
}

#[test]
fn incomplete_and_broken_key_stores_say_what_is_missing() {
    assert_eq!(identity(fixture!("mismatch.pem"), None), Err(Error::KeyMismatch));
    assert_eq!(identity(fixture!("root.crt"), None), Err(Error::NoPrivateKey));
    assert_eq!(identity(("x.pem", b""), None), Err(Error::Malformed(Part::Pem)));
    assert_eq!(identity(("x", b"what?"), None), Err(Error::UnknownFormat));
    let (name, pem) = fixture!("pkcs1.pem");
    assert_eq!(
        identity((name, &pem[..pem.len() - 40]), None),
        Err(Error::Malformed(Part::Pem))
    );
    let (name, p12) = fixture!("aes.p12");
    assert_eq!(
        identity((name, &p12[..900]), Some("secret")),
        Err(Error::Malformed(Part::Pkcs12))
    );
}

#[test]
fn an_expired_client_certificate_is_used() {
    let identity = identity(fixture!("expired-client.pem"), None).expect("the target decides");
    assert_eq!(names(&identity.chain), ["CN=expired"]);
}

#[test]
fn trust_stores_of_every_format_open() {
    for file in [fixture!("root.crt"), fixture!("root.der")] {
        assert_eq!(names(&trusted(file, None).expect(file.0).0), ["CN=Test Root"]);
    }
    assert_eq!(
        names(&trusted(fixture!("trust.p12"), Some("secret")).expect("PKCS#12").0),
        ["CN=Test Root"]
    );
}

#[test]
fn expired_certificates_of_a_trust_store_are_skipped() {
    let store = trusted(fixture!("trust.pem"), None).expect("readable");
    assert_eq!(names(&store.0), ["CN=Test Root", "CN=ec-client"]);
}

#[test]
fn a_trust_store_does_not_need_the_password_of_a_key_in_it() {
    let store = trusted(fixture!("dek-aes256.pem"), None).expect("the key is not looked at");
    assert_eq!(store.0.len(), 3);
}

#[test]
fn debug_output_shows_no_key() {
    let identity = identity(fixture!("pkcs1.pem"), None).expect("readable");
    assert_eq!(format!("{identity:?}"), "client identity, chain of 1");
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes: Vec<u8>, name in "[a-z]{0,3}\\.(pem|p12|der|jks|crt)") {
        let _ = load_client_identity(called(&name), &bytes, Some(&"secret".into()));
        let _ = load_trust_store(called(&name), &bytes, None);
    }

    #[test]
    fn damaged_files_are_read_without_panic(position in 0_usize..3000, value: u8) {
        for (name, bytes) in [fixture!("3des.p12"), fixture!("dek-des.pem"), fixture!("pbes2.pem")] {
            let mut bytes = bytes.to_vec();
            let position = position % bytes.len();
            bytes[position] = value;
            let _ = load_client_identity(called(name), &bytes, Some(&"secret".into()));
        }
    }
}
