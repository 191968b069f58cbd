use proptest::prelude::*;

use super::*;
use crate::resolve::destination::{Scheme, Version};

/// A key from one small number per part, so that parts are often equal.
fn key(parts: [u8; 5]) -> PoolKey {
    let [version, scheme, host, port, prior_knowledge] = parts;
    PoolKey {
        version: Version(u64::from(version)),
        scheme: if scheme == 0 { Scheme::Http } else { Scheme::Https },
        host: format!("host-{host}"),
        port: u16::from(port),
        tls: None,
        http2_prior_knowledge: prior_knowledge != 0,
    }
}

proptest! {
    #[test]
    fn keys_are_equal_only_if_all_parts_are(a in proptest::array::uniform5(0..2_u8), b in proptest::array::uniform5(0..2_u8)) {
        prop_assert_eq!(key(a) == key(b), a == b);
    }
}

mod tls {
    use std::sync::Arc;

    use proptest::prelude::*;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

    use super::super::key::TlsKey;
    use crate::resolve::destination::{HostnameVerifier, TlsPolicy};
    use crate::resolve::keystore::{CertificateStore, ClientIdentity};

    fn policy([trust_all, verifier, store, identity, chain, key, authority]: [u8; 7]) -> TlsPolicy {
        let certificate = |number| CertificateDer::from(vec![number]);
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(vec![key]));
        TlsPolicy {
            trust_all: trust_all != 0,
            trust_store: CertificateStore((0..store).map(certificate).collect()),
            hostname_verifier: [HostnameVerifier::Strict, HostnameVerifier::BrowserCompatible]
                [usize::from(verifier)],
            client_identity: (identity != 0).then(|| ClientIdentity {
                chain: vec![certificate(chain)],
                key: Arc::new(private),
                authorities: CertificateStore((0..authority).map(certificate).collect()),
            }),
        }
    }

    proptest! {
        #[test]
        fn policies_share_connections_only_if_they_are_equal(
            a in proptest::array::uniform7(0..2_u8),
            b in proptest::array::uniform7(0..2_u8),
        ) {
            let (a, b) = (policy(a), policy(b));
            prop_assert_eq!(TlsKey::new(&a) == TlsKey::new(&b), a == b);
        }
    }
}
