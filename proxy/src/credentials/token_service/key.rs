//! What makes two token entries differ: everything that is configured.

use aws_lc_rs::{hmac, rand};

use super::super::oauth2::Grant;
use crate::resolve::destination::{
    DestinationName, HostnameVerifier, OAuth2Client, Scheme, TargetUrl, TlsPolicy,
};
use crate::resolve::keystore::CertificateStore;

/// A hash that tells nothing about the secrets in it, not even whether they are
/// equal to those of another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

pub(super) struct Keys(hmac::Key);

impl Keys {
    pub(super) fn new() -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &rand::SystemRandom::new());
        Self(key.expect("the system has random numbers"))
    }

    /// Structures are taken apart by name, so that a new field cannot be forgotten.
    pub(super) fn of(&self, name: &DestinationName, client: &OAuth2Client, grant: &Grant) -> Key {
        let mut hasher = Hasher(hmac::Context::with_key(&self.0));
        hasher.text(name.as_str());
        hasher.grant(grant);
        hasher.client(client);
        let tag = hasher.0.sign();
        Key(tag.as_ref().try_into().expect("HMAC-SHA256 has 32 bytes"))
    }
}

/// Every part goes in with its length, so that parts cannot run into each other.
struct Hasher(hmac::Context);

impl Hasher {
    fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.update(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn count(&mut self, count: usize) {
        self.0.update(&(count as u64).to_be_bytes());
    }

    fn flag(&mut self, flag: bool) {
        self.0.update(&[u8::from(flag)]);
    }

    fn option<T>(&mut self, value: Option<T>, hash: impl FnOnce(&mut Self, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            hash(self, value);
        }
    }

    fn grant(&mut self, grant: &Grant) {
        match grant {
            Grant::ClientCredentials => self.count(0),
            Grant::Password { user, password } => {
                self.count(1);
                self.text(user);
                self.text(password.expose());
            }
        }
    }

    fn client(&mut self, client: &OAuth2Client) {
        let OAuth2Client {
            token_service_url,
            client_id,
            client_secret,
            token_service_user,
            credentials_in_body,
            scope,
            body,
            headers,
            queries,
            connect_timeout,
            read_timeout,
            tls,
        } = client;
        self.url(token_service_url);
        self.text(client_id);
        self.option(client_secret.as_ref(), |hasher, secret| {
            hasher.text(secret.expose());
        });
        self.option(token_service_user.as_ref(), |hasher, (user, password)| {
            hasher.text(user);
            hasher.text(password.expose());
        });
        self.flag(*credentials_in_body);
        self.option(scope.as_ref(), |hasher, scope| hasher.text(scope));
        self.count(body.len());
        for (name, value) in body {
            self.text(name);
            self.text(value.expose());
        }
        self.count(headers.len());
        for (name, value) in headers {
            self.text(name.as_str());
            self.bytes(value.as_bytes());
        }
        self.text(queries.expose());
        self.0.update(&connect_timeout.as_nanos().to_be_bytes());
        self.0.update(&read_timeout.as_nanos().to_be_bytes());
        self.option(tls.as_ref(), |hasher, policy| hasher.tls(policy));
    }

    fn url(&mut self, url: &TargetUrl) {
        let TargetUrl {
            scheme,
            host,
            port,
            authority,
            path,
            query,
        } = url;
        self.flag(*scheme == Scheme::Https);
        self.text(host);
        self.count(usize::from(*port));
        self.bytes(authority.as_bytes());
        self.text(path);
        self.option(query.as_ref(), |hasher, query| hasher.text(query));
    }

    fn tls(&mut self, policy: &TlsPolicy) {
        let TlsPolicy {
            trust_all,
            trust_store,
            hostname_verifier,
            client_identity,
        } = policy;
        self.flag(*trust_all);
        self.store(trust_store);
        self.flag(*hostname_verifier == HostnameVerifier::BrowserCompatible);
        self.option(client_identity.as_ref(), |hasher, identity| {
            hasher.count(identity.chain.len());
            for certificate in &identity.chain {
                hasher.bytes(certificate);
            }
            hasher.bytes(identity.key.secret_der());
            hasher.store(&identity.authorities);
        });
    }

    fn store(&mut self, store: &CertificateStore) {
        self.count(store.0.len());
        for certificate in &store.0 {
            self.bytes(certificate);
        }
    }
}

#[cfg(test)]
mod tests;
