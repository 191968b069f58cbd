//! Which objects have to do with a name.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::cluster::watch::Key;

/// Clones are the same index.
#[derive(Debug, Clone, Default)]
pub(super) struct Index(Arc<Mutex<HashMap<Box<str>, BTreeSet<Key>>>>);

impl Index {
    pub(super) fn insert(&self, name: &str, key: &Key) {
        let mut names = self.names_of();
        names.entry(name.into()).or_default().insert(key.clone());
    }

    pub(super) fn remove(&self, name: &str, key: &Key) {
        let mut names = self.names_of();
        if let Some(keys) = names.get_mut(name) {
            keys.remove(key);
            if keys.is_empty() {
                names.remove(name);
            }
        }
    }

    pub(super) fn of(&self, name: &str) -> BTreeSet<Key> {
        self.names_of().get(name).cloned().unwrap_or_default()
    }

    pub(super) fn names(&self) -> BTreeSet<Box<str>> {
        self.names_of().keys().cloned().collect()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.names_of().contains_key(name)
    }

    fn names_of(&self) -> MutexGuard<'_, HashMap<Box<str>, BTreeSet<Key>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_removed_leaves_no_name_behind() {
        let index = Index::default();
        let (one, two) = (Key::new("shop", "a"), Key::new("warehouse", "a"));
        index.insert("a", &one);
        index.insert("a", &two);
        index.remove("a", &one);
        assert_eq!(index.of("a"), BTreeSet::from([two.clone()]));
        assert!(index.has("a"));
        index.remove("a", &two);
        assert!(index.names().is_empty() && !index.has("a"));
    }
}
