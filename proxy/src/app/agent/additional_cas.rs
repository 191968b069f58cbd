//! Certificate authorities out of a Secret: for token services, not for targets.
//!
//! Whatever happens to the Secret, the last ones that were good stay in use; before there were
//! any, those of the system are all that is trusted.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tracing::{info, warn};

use crate::admin::Fact;
use crate::cluster::watch::{Query, Sink, Task, Watches};
use crate::config::kubernetes::AdditionalCas as Place;
use crate::connect::tls::Authorities;
use crate::resolve::keystore::{self, CertificateStore, FileName};

/// PEM is what a key of a Secret is read as, whatever it is called.
const FORMAT: &str = "authorities.pem";

/// What is watched, as the watch is called.
pub(super) const RESOURCE: &str = "the Secret with additional authorities";

/// Clones are the same.
#[derive(Clone)]
pub(super) struct AdditionalCas(Arc<Shared>);

struct Shared {
    place: Place,
    authorities: Authorities,
    /// Why the Secret as it is now is not what is trusted.
    problem: Mutex<Option<String>>,
}

impl AdditionalCas {
    pub(super) fn new(place: Place, authorities: Authorities) -> Self {
        Self(Arc::new(Shared {
            place,
            authorities,
            problem: Mutex::new(Some("has not been read yet".into())),
        }))
    }

    /// Of this one Secret, so no right is needed but for it.
    pub(super) fn watch(&self, client: &Client, watches: &Watches) -> Task {
        let place = &self.0.place;
        let api = Api::<Secret>::namespaced(client.clone(), &place.namespace);
        let query = Query::new(api, RESOURCE);
        let query = query.fields(format!("metadata.name={}", place.secret));
        query.feed(
            watches,
            Reading {
                cas: self.clone(),
                is_listed: false,
            },
        )
    }

    pub(super) fn fact(&self) -> Fact {
        let trusted = self.0.authorities.now().0.len();
        let problem = self.problem().clone();
        Fact {
            name: "additional authorities".into(),
            ok: problem.is_none(),
            value: match problem {
                None => format!("{trusted} certificates"),
                Some(problem) => format!("{} {problem}; {trusted} certificates are trusted", self.0.place),
            },
        }
    }

    fn take(&self, secret: &Secret) {
        match self.certificates(secret) {
            Ok(store) => {
                let is_news = *self.0.authorities.now() != store;
                if self.problem().take().is_some() || is_news {
                    info!(place = %self.0.place, certificates = store.0.len(), "additional authorities are trusted");
                }
                if is_news {
                    self.0.authorities.replace(store);
                }
            }
            Err(problem) => self.complain(problem),
        }
    }

    fn certificates(&self, secret: &Secret) -> Result<CertificateStore, String> {
        let key = &self.0.place.key;
        let data = secret.data.as_ref().and_then(|data| data.get(key));
        let pem = data.ok_or_else(|| format!("has no key {key}"))?;
        let file = FileName {
            name: FORMAT,
            shown: key,
        };
        let store = keystore::load_trust_store(file, &pem.0, None)
            .map_err(|error| format!("cannot be used: {error}"))?;
        if store.0.is_empty() {
            return Err("has only certificates that have expired".into());
        }
        Ok(store)
    }

    fn complain(&self, problem: String) {
        let mut known = self.problem();
        if known.as_ref() != Some(&problem) {
            let trusted = self.0.authorities.now().0.len();
            warn!(place = %self.0.place, problem, trusted, "additional authorities stay as they were");
            *known = Some(problem);
        }
    }

    fn problem(&self) -> MutexGuard<'_, Option<String>> {
        self.0.problem.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Reading {
    cas: AdditionalCas,
    /// By the list that is under way.
    is_listed: bool,
}

impl Sink<Secret> for Reading {
    fn begin(&mut self) {
        self.is_listed = false;
    }

    fn listed(&mut self, secret: Secret) {
        self.is_listed = true;
        self.cas.take(&secret);
    }

    fn finish(&mut self) {
        if !self.is_listed {
            self.cas.complain("is missing".into());
        }
    }

    fn applied(&mut self, secret: Secret) {
        self.cas.take(&secret);
    }

    fn deleted(&mut self, _: Secret) {
        self.cas.complain("is missing".into());
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;

    fn authority() -> String {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().pem()
    }

    fn secret(key: &str, text: &str) -> Secret {
        Secret {
            data: Some([(key.to_owned(), ByteString(text.into()))].into()),
            ..Secret::default()
        }
    }

    #[test]
    fn whatever_happens_to_the_secret_the_last_good_authorities_are_trusted() {
        let authorities = Authorities::default();
        let place = Place {
            namespace: "pki".into(),
            secret: "roots".into(),
            key: "ca".into(),
        };
        let cas = AdditionalCas::new(place, authorities.clone());
        let mut reading = Reading {
            cas: cas.clone(),
            is_listed: false,
        };
        let told = || {
            let fact = cas.fact();
            (fact.ok, fact.value)
        };
        assert!(!told().0);
        reading.begin();
        reading.finish();
        let missing = "the key ca of the Secret pki/roots is missing; 0 certificates are trusted";
        assert_eq!(told(), (false, missing.to_owned()));
        let pem = authority();
        reading.applied(secret("ca", &format!("{pem}{}", authority())));
        assert_eq!(told(), (true, "2 certificates".to_owned()));
        reading.applied(secret("ca", &pem));
        assert_eq!(told(), (true, "1 certificates".to_owned()));
        let one = authorities.now();
        for broken in [
            secret("ca", ""),
            secret(
                "ca",
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            ),
            secret("other", &pem),
        ] {
            reading.applied(broken);
            assert!(
                !told().0 && told().1.ends_with("; 1 certificates are trusted"),
                "{told:?}",
                told = told()
            );
            assert_eq!(authorities.now(), one);
        }
        reading.deleted(secret("ca", &pem));
        assert!(told().1.contains("is missing"), "{}", told().1);
        reading.begin();
        reading.listed(secret("ca", &pem));
        reading.finish();
        assert_eq!(told(), (true, "1 certificates".to_owned()));
    }
}
