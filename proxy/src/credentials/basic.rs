//! HTTP Basic, RFC 7617.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use zeroize::Zeroizing;

/// `Basic …` for `user` and `password` in UTF-8.
pub(super) fn header_value(user: &str, password: &str) -> HeaderValue {
    let pair = Zeroizing::new(format!("{user}:{password}"));
    let encoded = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
    sensitive("Basic", &encoded).expect("base64 is visible ASCII")
}

/// `<scheme> <credentials>`, never shown by Debug, not put into HPACK tables, and
/// overwritten when the last clone goes. `None` if no header can carry it.
pub(super) fn sensitive(scheme: &str, credentials: &str) -> Option<HeaderValue> {
    let mut text = Vec::with_capacity(scheme.len() + 1 + credentials.len());
    text.extend_from_slice(scheme.as_bytes());
    text.push(b' ');
    text.extend_from_slice(credentials.as_bytes());
    let text = Bytes::from_owner(Zeroizing::new(text));
    let mut value = HeaderValue::from_maybe_shared(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_are_encoded_as_utf8() {
        assert_eq!(
            header_value("Aladdin", "open sesame"),
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        );
        assert_eq!(header_value("test", "123£"), "Basic dGVzdDoxMjPCow==");
    }

    #[test]
    fn the_value_does_not_show_in_debug_output() {
        assert_eq!(format!("{:?}", header_value("user", "hunter2")), "Sensitive");
    }

    #[test]
    fn line_breaks_are_refused() {
        assert!(sensitive("Bearer", "a\r\nX-Evil: 1").is_none());
    }
}
