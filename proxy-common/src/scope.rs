//! Who may connect to what: namespaces as numbers, which is all that the hook compares.

use crate::address::Endpoint;

/// A namespace, numbered by user space for as long as its process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct NamespaceNumber(pub u32);

impl NamespaceNumber {
    /// Of a target: everybody may connect. Of a caller: it belongs to no namespace, so it
    /// may go only where everybody may.
    pub const NONE: Self = Self(0);
}

/// The value of a virtual IP and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Target {
    /// The proxy's listener.
    pub proxy: Endpoint,
    /// The only namespace that may connect, unless it is [`NamespaceNumber::NONE`].
    pub namespace: NamespaceNumber,
}

impl Target {
    #[inline(always)]
    pub const fn new(proxy: Endpoint, namespace: NamespaceNumber) -> Self {
        Self { proxy, namespace }
    }

    #[inline(always)]
    pub const fn is_for_anybody(&self) -> bool {
        self.namespace.0 == NamespaceNumber::NONE.0
    }

    /// Whether a caller of this namespace may connect.
    #[inline(always)]
    pub const fn is_for(&self, caller: NamespaceNumber) -> bool {
        self.is_for_anybody() || self.namespace.0 == caller.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_no_hidden_padding() {
        assert_eq!(size_of::<NamespaceNumber>(), 4);
        assert_eq!(size_of::<Target>(), 20 + 4);
        assert_eq!(align_of::<Target>(), 4);
    }
}
