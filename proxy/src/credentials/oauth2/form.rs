//! The body of a token request: `application/x-www-form-urlencoded`.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{ClientAuthentication, Grant};
use crate::resolve::destination::OAuth2Client;

/// As RFC 6749, appendix B refers to: everything but these is encoded, and a blank is `+`.
const UNENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'*')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b' ');

/// Configured fields win over ours of the same name: RFC 6749, section 3.2 forbids to
/// send a parameter twice.
pub(super) fn encode(client: &OAuth2Client, grant: &Grant, way: ClientAuthentication) -> String {
    let mut form = String::new();
    let own = own_fields(client, grant, way);
    let own = own
        .into_iter()
        .filter(|(name, _)| client.body.iter().all(|(configured, _)| configured != name));
    let configured = client
        .body
        .iter()
        .map(|(name, value)| (name.as_str(), value.expose()));
    for (name, value) in own.chain(configured) {
        if !form.is_empty() {
            form.push('&');
        }
        push(&mut form, name);
        form.push('=');
        push(&mut form, value);
    }
    form
}

fn own_fields<'a>(
    client: &'a OAuth2Client,
    grant: &'a Grant,
    way: ClientAuthentication,
) -> Vec<(&'static str, &'a str)> {
    let mut fields = match grant {
        Grant::ClientCredentials => vec![("grant_type", "client_credentials")],
        Grant::Password { user, password } => {
            vec![
                ("grant_type", "password"),
                ("username", user),
                ("password", password.expose()),
            ]
        }
    };
    fields.extend(client.scope.as_deref().map(|scope| ("scope", scope)));
    if way == ClientAuthentication::Body {
        fields.push(("client_id", &client.client_id));
        if client.credentials_in_body || client.token_service_user.is_none() {
            fields.extend(
                client
                    .client_secret
                    .as_ref()
                    .map(|secret| ("client_secret", secret.expose())),
            );
        }
    }
    fields
}

pub(super) fn encode_value(value: &str) -> String {
    let mut encoded = String::new();
    push(&mut encoded, value);
    encoded
}

fn push(form: &mut String, text: &str) {
    // A literal `+` was encoded, so every blank that is left was one.
    for piece in utf8_percent_encode(text, UNENCODED) {
        for (index, part) in piece.split(' ').enumerate() {
            if index > 0 {
                form.push('+');
            }
            form.push_str(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::encode_value;

    #[test]
    fn values_are_encoded_as_forms_are() {
        assert_eq!(
            encode_value("a b+c/d:e%f=g!h|i&j"),
            "a+b%2Bc%2Fd%3Ae%25f%3Dg%21h%7Ci%26j"
        );
        assert_eq!(encode_value("*-._~"), "*-._%7E");
        assert_eq!(encode_value("ü €"), "%C3%BC+%E2%82%AC");
        assert_eq!(encode_value(""), "");
    }
}
