//! The id that connects a request, its answer and its lines in the log.

use http::{HeaderMap, HeaderValue};
use uuid::fmt::Hyphenated;

use crate::error::render::REQUEST_ID;

const MAX_LENGTH: usize = 128;

/// The application's own id if it sent exactly one that is fit to be logged, else a new one.
pub(super) fn of(headers: &HeaderMap) -> HeaderValue {
    let mut sent = headers.get_all(&REQUEST_ID).iter();
    match (sent.next(), sent.next()) {
        (Some(id), None) if is_fit(id) => id.clone(),
        _ => new(),
    }
}

fn is_fit(id: &HeaderValue) -> bool {
    (1..=MAX_LENGTH).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
}

/// A version 4 UUID. It need not be hard to guess, so a fast generator will do.
pub(super) fn new() -> HeaderValue {
    let id = uuid::Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid();
    let mut text = [0; Hyphenated::LENGTH];
    id.hyphenated().encode_lower(&mut text);
    HeaderValue::from_bytes(&text).expect("hexadecimal digits and hyphens are a valid field value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_visible_id_is_reused() {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_static("abc-1"));
        assert_eq!(of(&headers), "abc-1");
    }

    #[test]
    fn unfit_or_repeated_ids_are_replaced_by_a_uuid() {
        let mut headers = HeaderMap::new();
        for unfit in ["", "a b", "\u{e4}", &"x".repeat(129)] {
            headers.insert(REQUEST_ID, HeaderValue::from_bytes(unfit.as_bytes()).unwrap());
            assert_eq!(of(&headers).len(), Hyphenated::LENGTH);
        }
        headers.insert(REQUEST_ID, HeaderValue::from_static("a"));
        headers.append(REQUEST_ID, HeaderValue::from_static("b"));
        let id = of(&headers);
        assert_eq!(
            uuid::Uuid::parse_str(id.to_str().unwrap())
                .unwrap()
                .get_version_num(),
            4
        );
    }
}
