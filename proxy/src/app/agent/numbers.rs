//! Namespaces as numbers, which is all that the hook compares.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::datapath::NamespaceNumber;

/// Gives out numbers, the same one for the same namespace as long as the process lives. Clones
/// give out the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Numbers(Arc<Mutex<HashMap<Arc<str>, NamespaceNumber>>>);

impl Numbers {
    pub(super) fn of(&self, namespace: &Arc<str>) -> NamespaceNumber {
        let mut numbers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // `NONE` is 0.
        let next = u32::try_from(numbers.len() + 1).expect("fewer namespaces than that");
        *numbers
            .entry(Arc::clone(namespace))
            .or_insert(NamespaceNumber(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_keeps_its_number_and_none_has_that_of_everybody() {
        let numbers = Numbers::default();
        let (a, b) = (numbers.of(&"a".into()), numbers.of(&"b".into()));
        assert_ne!(a, b);
        assert_eq!(numbers.clone().of(&"a".into()), a);
        assert!([a, b].iter().all(|number| *number != NamespaceNumber::NONE));
    }
}
