//! Reads properties and collects what is wrong with them.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

use zeroize::Zeroizing;

use super::invalid::{Invalid, Problem, StoreError, Warning, quoted};
use super::url;
use super::{Source, TargetUrl, Version};
use crate::resolve::keystore::{self, CertificateStore, ClientIdentity, FileName};
use crate::resolve::properties::Properties;
use crate::secret::Secret;

/// Where `KeyStoreLocation` and its relatives point to.
pub trait KeyStores {
    fn read(&self, location: &str) -> Result<Vec<u8>, StoreError>;
}

/// Keyed at random, so that a version tells nothing about the secrets in it.
static VERSION_KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// Whatever is refused here makes the destination unusable, so readers may go on
/// with a substitute for it and find what else is wrong.
pub(super) struct Reader<'a> {
    pub(super) properties: &'a Properties,
    stores: &'a dyn KeyStores,
    pub(super) source: Source,
    pub(super) invalid: Vec<Invalid>,
    pub(super) warnings: Vec<Warning>,
    hasher: std::hash::DefaultHasher,
}

impl<'a> Reader<'a> {
    pub(super) fn new(properties: &'a Properties, stores: &'a dyn KeyStores, source: Source) -> Self {
        let mut hasher = VERSION_KEYS.build_hasher();
        for name in properties.names() {
            write_part(&mut hasher, name.as_bytes());
            let value = properties.get(name).unwrap_or_default();
            write_part(&mut hasher, value.as_bytes());
        }
        Self {
            properties,
            stores,
            source,
            invalid: Vec::new(),
            warnings: Vec::new(),
            hasher,
        }
    }

    /// Covers all properties and the stores read so far.
    pub(super) fn version(&self) -> Version {
        Version(self.hasher.finish())
    }

    pub(super) fn refuse(&mut self, property: impl Into<String>, problem: Problem) {
        self.invalid.push(Invalid {
            property: property.into(),
            problem,
        });
    }

    pub(super) fn warn(&mut self, property: impl Into<String>, message: impl Into<String>) {
        self.warnings.push(Warning {
            property: property.into(),
            message: message.into(),
        });
    }

    /// Refuses a value out of a list, or one that is in no list. What is in a list can be shown.
    pub(super) fn refuse_value(
        &mut self,
        property: &str,
        value: &str,
        later: &[&'static str],
        instead: &'static str,
        expected: &'static str,
    ) {
        let known = later.iter().find(|known| known.eq_ignore_ascii_case(value));
        let problem = match known {
            Some(known) => Problem::NotSupportedYet {
                value: quoted(known),
                instead,
            },
            None => Problem::Unknown {
                value: self.quote(property),
                expected,
            },
        };
        self.refuse(property, problem);
    }

    /// The value for a message; only for properties that hold no secret.
    pub(super) fn quote(&self, name: &str) -> String {
        if self.hides(name) {
            return "[hidden]".to_owned();
        }
        quoted(self.properties.get(name).unwrap_or_default().trim())
    }

    fn hides(&self, name: &str) -> bool {
        self.source == Source::Secrets || self.properties.is_hidden(name)
    }

    /// The trimmed value; empty counts as absent, since exports write all fields.
    pub(super) fn optional(&self, name: &str) -> Option<&'a str> {
        let value = self.properties.get(name)?.trim();
        (!value.is_empty()).then_some(value)
    }

    pub(super) fn required(&mut self, name: &str, remedy: &'static str) -> Option<&'a str> {
        let value = self.optional(name);
        if value.is_none() {
            self.refuse_absent(name, remedy);
        }
        value
    }

    fn refuse_absent(&mut self, name: &str, remedy: &'static str) {
        let problem = if self.properties.contains(name) {
            Problem::Empty(remedy)
        } else {
            Problem::Missing(remedy)
        };
        self.refuse(name, problem);
    }

    /// A secret exactly as written. Present but empty is allowed where the caller allows it.
    pub(super) fn secret(&mut self, name: &str) -> Option<Secret> {
        let secret = self.properties.secret(name)?;
        if is_export_placeholder(secret.expose()) {
            let better = match self.source {
                Source::Files => ", best as ${env:NAME} or ${file:PATH}",
                Source::Secrets => "",
            };
            self.refuse(name, Problem::RemovedOnExport(better));
            return None;
        }
        Some(secret)
    }

    pub(super) fn required_secret(&mut self, name: &str, remedy: &'static str) -> Option<Secret> {
        if !self.properties.contains(name) {
            self.refuse(name, Problem::Missing(remedy));
            return None;
        }
        let secret = self.secret(name)?;
        if secret.is_empty() {
            self.warn(name, "is empty; the empty text is sent as password");
        }
        if secret.expose().contains(char::is_control) {
            self.refuse(name, Problem::ControlCharacter);
            return None;
        }
        Some(secret)
    }

    /// The password of a store; empty counts as none.
    fn store_password(&mut self, name: &str) -> Option<Secret> {
        self.secret(name).filter(|password| !password.is_empty())
    }

    /// A user or client id: verbatim, not empty, no control characters.
    pub(super) fn identity(&mut self, name: &str, remedy: &'static str) -> Option<String> {
        self.required(name, remedy)?;
        let value = self.properties.get(name)?;
        if value.contains(char::is_control) {
            self.refuse(name, Problem::ControlCharacter);
            return None;
        }
        Some(value.to_owned())
    }

    pub(super) fn boolean(&mut self, name: &str, default: bool) -> bool {
        match self.optional(name).map(parse_boolean) {
            None => default,
            Some(Some(value)) => value,
            Some(None) => {
                let value = self.quote(name);
                self.refuse(name, Problem::NotBoolean { value });
                default
            }
        }
    }

    /// Like [`Self::boolean`], for options that are not worth failing for.
    pub(super) fn lenient_boolean(&mut self, name: &str, default: bool) -> bool {
        let Some(value) = self.optional(name) else {
            return default;
        };
        parse_boolean(value).unwrap_or_else(|| {
            let value = self.quote(name);
            self.warn(
                name,
                format!("is {value}, which is not a boolean; the default {default} is used"),
            );
            default
        })
    }

    /// A number within the range, else the default with a warning.
    pub(super) fn lenient_number(&mut self, name: &str, min: i64, max: i64, default: i64) -> i64 {
        let Some(value) = self.optional(name) else {
            return default;
        };
        let number = value.parse().ok().filter(|n| (min..=max).contains(n));
        number.unwrap_or_else(|| {
            let value = self.quote(name);
            self.warn(
                name,
                format!("is {value}, which is not a whole number from {min} to {max}; the default {default} is used"),
            );
            default
        })
    }

    /// Loopback is another machine for the proxy than for whoever wrote the destination.
    pub(super) fn refuse_loopback(&mut self, name: &str, host: &str) {
        let is_loopback = matches!(host, "localhost" | "127.0.0.1" | "::1");
        if is_loopback && self.source == Source::Secrets {
            self.refuse(name, Problem::Loopback);
        }
    }

    pub(super) fn http_url(&mut self, name: &str, remedy: &'static str) -> Option<TargetUrl> {
        let value = self.required(name, remedy)?;
        if value.contains('#') {
            self.warn(name, "has a fragment (\"#\"), which is ignored");
        }
        let url = url::parse_http(value);
        let url = self.url_result(name, url)?;
        self.refuse_loopback(name, &url.host);
        Some(url)
    }

    pub(super) fn url_result<T>(&mut self, name: &str, url: Result<T, url::Error>) -> Option<T> {
        url.map_err(|error| {
            let hidden = self.hides(name);
            let error = if hidden { error.hidden() } else { error };
            self.refuse(name, Problem::Url(error));
        })
        .ok()
    }

    /// The additional roots; none as well after a refusal.
    pub(super) fn trust_store(&mut self) -> CertificateStore {
        let Some((file, bytes)) = self.store("TrustStoreLocation") else {
            return CertificateStore::default();
        };
        let password = self.store_password("TrustStorePassword");
        let store = keystore::load_trust_store(file, &bytes, password.as_ref());
        self.store_result("TrustStoreLocation", store).unwrap_or_default()
    }

    /// The client certificate that `location_property` names; none as well after a refusal.
    pub(super) fn client_identity(
        &mut self,
        location_property: &str,
        password_property: &str,
    ) -> Option<ClientIdentity> {
        let (file, bytes) = self.store(location_property)?;
        let password = self.store_password(password_property);
        let identity = keystore::load_client_identity(file, &bytes, password.as_ref());
        self.store_result(location_property, identity)
    }

    fn store<'b>(&mut self, property: &'b str) -> Option<(FileName<'b>, Zeroizing<Vec<u8>>)>
    where
        'a: 'b,
    {
        let location = self.optional(property)?;
        match self.stores.read(location) {
            Ok(bytes) => {
                let bytes = Zeroizing::new(bytes);
                write_part(&mut self.hasher, &bytes);
                let shown = if self.hides(property) { property } else { location };
                let name = location;
                Some((FileName { name, shown }, bytes))
            }
            Err(error) => {
                self.refuse(property, Problem::Store(error));
                None
            }
        }
    }

    fn store_result<T>(&mut self, property: &str, store: Result<T, keystore::Error>) -> Option<T> {
        store
            .map_err(|error| self.refuse(property, Problem::StoreContent(error.to_string())))
            .ok()
    }
}

pub(super) fn parse_boolean(value: &str) -> Option<bool> {
    if value.eq_ignore_ascii_case("true") {
        Some(true)
    } else if value.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// The cockpit writes `<< Existing password/certificate removed on export >>` for secrets.
fn is_export_placeholder(value: &str) -> bool {
    let value = value.trim();
    value.starts_with("<<") && value.ends_with(">>") && value.contains("removed on export")
}

/// Length first, so that no two lists of parts hash alike.
fn write_part(hasher: &mut impl Hasher, part: &[u8]) {
    hasher.write_usize(part.len());
    hasher.write(part);
}
