//! Request targets and hosts: no more than what `http::Uri` takes, so that hyper never refuses one by itself.

const PATH: u8 = 1;
const QUERY: u8 = 2;
const HOST: u8 = 4;

/// Whether the target has a form that fits the method (RFC 9112, section 3.2) and only valid bytes.
pub(super) fn is_valid(method: &[u8], target: &[u8]) -> bool {
    match target {
        [b'/', ..] => is_path_and_query(target),
        b"*" => method == b"OPTIONS",
        _ => is_absolute(target),
    }
}

fn is_absolute(target: &[u8]) -> bool {
    let Some(rest) = after_scheme(target) else {
        return false;
    };
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?'))
        .unwrap_or(rest.len());
    // Rare enough to ask the parser itself, too.
    is_authority(&rest[..end]) && is_path_and_query(&rest[end..]) && http::Uri::try_from(target).is_ok()
}

fn after_scheme(target: &[u8]) -> Option<&[u8]> {
    let has = |scheme: &str| {
        target
            .get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme.as_bytes()))
    };
    ["http://", "https://"]
        .into_iter()
        .find(|scheme| has(scheme))
        .map(|scheme| &target[scheme.len()..])
}

fn is_path_and_query(bytes: &[u8]) -> bool {
    let mut allowed = PATH;
    let mut ascii = true;
    for byte in bytes {
        if *byte == b'?' {
            allowed = QUERY;
        } else if CLASS[usize::from(*byte)] & allowed == 0 {
            return false;
        }
        ascii &= byte.is_ascii();
    }
    // UTF-8 that is not percent-encoded is against RFC 3986, but clients send it and servers read it.
    ascii || str::from_utf8(bytes).is_ok()
}

/// `uri-host [":" port]` of RFC 9110, section 7.2, neither empty nor with a user.
pub(super) fn is_authority(value: &[u8]) -> bool {
    let (host, port) = match value {
        [b'[', rest @ ..] => {
            let Some(end) = rest.iter().position(|byte| *byte == b']') else {
                return false;
            };
            if !is_ip_literal(&rest[..end]) {
                return false;
            }
            (&value[..end + 2], &rest[end + 1..])
        }
        _ => value.split_at(value.iter().position(|byte| *byte == b':').unwrap_or(value.len())),
    };
    let host_is_valid = host.starts_with(b"[") || is_name(host);
    host_is_valid && is_port(port)
}

fn is_name(host: &[u8]) -> bool {
    !host.is_empty() && host.iter().all(|byte| CLASS[usize::from(*byte)] & HOST != 0)
}

fn is_ip_literal(address: &[u8]) -> bool {
    str::from_utf8(address).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
}

fn is_port(port: &[u8]) -> bool {
    match port {
        [] | [b':'] => true,
        [b':', digits @ ..] => {
            digits.iter().all(u8::is_ascii_digit)
                && str::from_utf8(digits).is_ok_and(|digits| digits.parse::<u16>().is_ok())
        }
        _ => false,
    }
}

const CLASS: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let char = byte as u8;
        // https://url.spec.whatwg.org/#path-state and #query-state, as `http` has them; `#` is in neither.
        let path = matches!(char,
            0x21 | 0x24..=0x3b | 0x3d | 0x40..=0x5f | 0x61..=0x7a | 0x7c | 0x7e
            | b'"' | b'{' | b'}' | 0x80..=0xff);
        let query = matches!(char, 0x21 | 0x24..=0x3b | 0x3d | 0x3f..=0x7e | 0x80..=0xff);
        // reg-name of RFC 3986 without the comma, which joins field lines, and without percent-encoding, which
        // `http` refuses in hosts.
        let host = char.is_ascii_alphanumeric()
            || matches!(
                char,
                b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')'
            )
            || matches!(char, b'*' | b'+' | b';' | b'=');
        table[byte] =
            if path { PATH } else { 0 } | if query { QUERY } else { 0 } | if host { HOST } else { 0 };
        byte += 1;
    }
    table
};
