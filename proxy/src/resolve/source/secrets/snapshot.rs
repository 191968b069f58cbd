//! What of the destinations may be written to a file: those that need no credential.
//!
//! Of a destination only properties are kept that are known to hold no secret, and only if the
//! destination is the same without the others.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::AllowedNamespaces;
use crate::resolve::destination::known::{Kind, PROPERTIES};
use crate::resolve::destination::{Destination, KeyStores, Source, StoreError, interpret, url};
use crate::resolve::properties::Properties;

/// All that may be kept, if its value is of the kind that the property has.
const HARMLESS: &[&str] = &[
    "Name",
    "Type",
    "ProxyType",
    "service.port",
    "URL",
    "URL.connectionTimeoutInSeconds",
    "URL.socketReadTimeoutInSeconds",
    "Authentication",
    "TrustAll",
    "HostnameVerifier",
    "Address",
    "tcp.nodelay",
    "tcp.socket.keepalive",
    "tcp.socket.linger",
    "tcp.socket.sndbuf",
    "tcp.socket.rcvbuf",
    "tcp.socket.timeout",
    "tcp.socket.reuseaddr",
];

/// Known, without effect, and left out.
const LEFT_OUT: &[&str] = &["Description"];

/// Whether the proxy can serve the destination with nothing that may be a secret.
pub fn needs_no_credential(properties: &Properties) -> bool {
    Harmless::of(properties).is_some()
}

/// The properties of a destination that needs no credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Harmless(BTreeMap<String, String>);

impl Harmless {
    pub(super) fn of(properties: &Properties) -> Option<Self> {
        let mut kept = BTreeMap::new();
        for name in properties.names().filter(|name| has_effect(name)) {
            let value = properties.get(name)?;
            if !is_harmless(name, value.trim()) {
                return None;
            }
            kept.insert(name.to_owned(), value.to_owned());
        }
        Some(Self(kept))
    }

    /// As it was, unless somebody has changed the file.
    fn destination(&self) -> Option<Destination> {
        let properties: Properties = self
            .0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        if !needs_no_credential(&properties) {
            return None;
        }
        interpret(&properties, &NoStores, Source::Secrets)
            .destination
            .ok()
    }
}

/// Properties that nobody interprets are left out.
fn has_effect(name: &str) -> bool {
    let is = |known: &str| name == known || known.ends_with('.') && name.starts_with(known);
    PROPERTIES.iter().any(|known| is(known.name)) && !LEFT_OUT.contains(&name)
}

fn is_harmless(name: &str, value: &str) -> bool {
    if value.is_empty() {
        return true;
    }
    match name {
        "Authentication" => value.eq_ignore_ascii_case("NoAuthentication"),
        "Name" => is_name(value),
        "URL" => url::is_bare(value),
        "Address" => url::is_tcp(value),
        _ => HARMLESS.contains(&name) && is_of_its_kind(name, value),
    }
}

fn is_name(value: &str) -> bool {
    value
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

fn is_of_its_kind(name: &str, value: &str) -> bool {
    let known = PROPERTIES.iter().find(|known| known.name == name);
    known.is_some_and(|known| match known.kind {
        Kind::Text | Kind::Secret => false,
        Kind::Boolean => ["true", "false"].iter().any(|b| b.eq_ignore_ascii_case(value)),
        Kind::Integer(min, max) => value
            .parse()
            .is_ok_and(|number: i64| (min..=max).contains(&number)),
        Kind::Choice(choices) => choices.iter().any(|choice| choice.eq_ignore_ascii_case(value)),
    })
}

struct NoStores;

impl KeyStores for NoStores {
    fn read(&self, _location: &str) -> Result<Vec<u8>, StoreError> {
        Err(StoreError::NoSuchKey)
    }
}

/// Destinations that need no credential, for a file: what is served after a restart while the
/// Secrets cannot be listed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Snapshot(Vec<Saved>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Saved {
    pub(super) allowed_namespaces: AllowedNamespaces,
    pub(super) properties: Harmless,
}

impl Snapshot {
    pub(super) fn new(mut saved: Vec<Saved>) -> Self {
        saved.sort_by(|one, other| one.properties.0.cmp(&other.properties.0));
        Self(saved)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// What is in it and still makes sense.
    pub(super) fn destinations(&self) -> impl Iterator<Item = (&AllowedNamespaces, Destination)> {
        self.0
            .iter()
            .filter_map(|saved| Some((&saved.allowed_namespaces, saved.properties.destination()?)))
    }
}
