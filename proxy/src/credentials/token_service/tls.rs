//! TLS towards one token service, with the authorities that are trusted at the moment.

use std::sync::{Arc, Mutex, PoisonError};

use tracing::warn;

use crate::connect::tls::{self, Alpn, Authorities, TlsClient};
use crate::resolve::destination::{HostnameVerifier, OAuth2Client, Scheme, TlsPolicy};
use crate::resolve::keystore::CertificateStore;

static DEFAULT_POLICY: TlsPolicy = TlsPolicy {
    trust_all: false,
    trust_store: CertificateStore(Vec::new()),
    hostname_verifier: HostnameVerifier::Strict,
    client_identity: None,
};

pub(in crate::credentials) struct ServiceTls {
    client: Arc<OAuth2Client>,
    authorities: Authorities,
    made: Mutex<Made>,
}

struct Made {
    of: Arc<CertificateStore>,
    client: TlsClient,
}

impl ServiceTls {
    /// None for a service without TLS.
    pub(super) fn new(
        client: &Arc<OAuth2Client>,
        authorities: &Authorities,
    ) -> Result<Option<Self>, tls::Error> {
        if client.token_service_url.scheme == Scheme::Http {
            return Ok(None);
        }
        let made = make(client, authorities.now())?;
        Ok(Some(Self {
            client: Arc::clone(client),
            authorities: authorities.clone(),
            made: Mutex::new(made),
        }))
    }

    pub(in crate::credentials) fn now(&self) -> TlsClient {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let authorities = self.authorities.now();
        if !Arc::ptr_eq(&authorities, &made.of) {
            match make(&self.client, authorities) {
                Ok(new) => *made = new,
                Err(error) => warn!(%error, "other authorities cannot be used"),
            }
        }
        made.client.clone()
    }
}

fn make(client: &OAuth2Client, of: Arc<CertificateStore>) -> Result<Made, tls::Error> {
    let policy = client.tls.as_deref().unwrap_or(&DEFAULT_POLICY);
    let client = TlsClient::new(policy, Alpn::Http1, &of)?;
    Ok(Made { of, client })
}
