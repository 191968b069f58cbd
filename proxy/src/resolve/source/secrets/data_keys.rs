//! The data keys of a Secret: properties, and key stores that properties name.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use zeroize::Zeroize;

use crate::resolve::destination::{KeyStores, StoreError};

/// The data of one version of one Secret, overwritten when dropped.
pub(super) struct DataKeys(BTreeMap<String, ByteString>);

impl DataKeys {
    /// Takes them out, and overwrites what `kubectl apply` leaves in the annotations: the
    /// manifest with all values.
    pub(super) fn take(secret: &mut Secret) -> Self {
        for value in secret
            .metadata
            .annotations
            .iter_mut()
            .flat_map(BTreeMap::values_mut)
        {
            value.zeroize();
        }
        Self(secret.data.take().unwrap_or_default())
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(super) fn bytes(&self, key: &str) -> Option<&[u8]> {
        self.0.get(key).map(|value| value.0.as_slice())
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        std::str::from_utf8(self.bytes(key)?).ok()
    }
}

impl KeyStores for DataKeys {
    fn read(&self, location: &str) -> Result<Vec<u8>, StoreError> {
        let store = self.bytes(location).ok_or(StoreError::NoSuchKey)?;
        Ok(store.to_vec())
    }
}

impl Drop for DataKeys {
    fn drop(&mut self) {
        self.0.values_mut().for_each(|value| value.0.zeroize());
    }
}
