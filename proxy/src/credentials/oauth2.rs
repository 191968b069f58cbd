//! OAuth 2.0 grants that the proxy runs itself (RFC 6749).

use crate::secret::Secret;

pub(super) enum Grant {
    ClientCredentials,
    Password { user: String, password: Secret },
}
