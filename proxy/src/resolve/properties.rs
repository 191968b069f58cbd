//! The properties of a destination as its source delivers them: names and texts,
//! before anybody interprets them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::secret::Secret;

/// Property names and values in the shape of the Destination service. Names are
/// case-sensitive. Any value may hold a credential (`URL.headers.*`,
/// `tokenService.body.*` …), so all of them are kept as secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties {
    values: BTreeMap<String, Secret>,
    /// Names of values that no message may quote, because they came out of a
    /// variable or file that may be somebody's password by mistake.
    hidden: BTreeSet<String>,
}

impl Properties {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(Secret::expose)
    }

    pub fn secret(&self, name: &str) -> Option<Secret> {
        self.values.get(name).cloned()
    }

    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<Secret>) -> Option<Secret> {
        self.values.insert(name.into(), value.into())
    }

    /// Forbids messages to quote the value of `name`.
    pub fn hide(&mut self, name: impl Into<String>) {
        self.hidden.insert(name.into());
    }

    pub fn is_hidden(&self, name: &str) -> bool {
        self.hidden.contains(name)
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub fn contains(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// The properties `<prefix><key>` as (`<key>`, value), in ascending byte order of the key.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Secret)> {
        self.values
            .range(prefix.to_owned()..)
            .map_while(move |(name, value)| Some((name.strip_prefix(prefix)?, value)))
    }
}

impl<N: Into<String>, V: Into<Secret>> FromIterator<(N, V)> for Properties {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let values = pairs
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        Self {
            values,
            hidden: BTreeSet::new(),
        }
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}
