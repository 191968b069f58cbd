//! The properties of a destination as its source delivers them: names and texts,
//! before anybody interprets them.

use std::collections::BTreeMap;
use std::fmt;

use crate::secret::Secret;

/// Property names and values in the shape of the Destination service. Names are
/// case-sensitive. Any value may hold a credential (`URL.headers.*`,
/// `tokenService.body.*` …), so all of them are kept as secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties(BTreeMap<String, Secret>);

impl Properties {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(Secret::expose)
    }

    pub fn secret(&self, name: &str) -> Option<Secret> {
        self.0.get(name).cloned()
    }

    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<Secret>) -> Option<Secret> {
        self.0.insert(name.into(), value.into())
    }

    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The properties `<prefix><key>` as (`<key>`, value), in ascending byte order of the key.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Secret)> {
        self.0
            .range(prefix.to_owned()..)
            .map_while(move |(name, value)| Some((name.strip_prefix(prefix)?, value)))
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
