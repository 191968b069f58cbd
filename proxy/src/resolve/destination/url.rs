//! Addresses of targets: `URL`, `tokenServiceURL` and `Address`.

use std::net::{Ipv4Addr, Ipv6Addr};

use http::HeaderValue;
use http::uri::PathAndQuery;

use super::invalid::quoted;
use super::{Scheme, TargetUrl};

/// Why an address is refused; a sentence that follows the property's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("starts with {0}, but only http:// and https:// are supported")]
    Scheme(String),
    #[error("starts with {0}, but only tcp:// is supported; write it like tcp://host:port")]
    TcpScheme(String),
    #[error("has no host; write it like https://host:port/path")]
    NoHost,
    #[error("has a user or password in front of the host; remove it and set User and Password instead")]
    UserInfo,
    #[error("has no port; write it like tcp://host:port")]
    NoPort,
    #[error("has the port {0}; a port is a number from 1 to 65535")]
    Port(String),
    #[error("has a port that is not a number; a port is a number from 1 to 65535")]
    PortNotANumber,
    #[error("has an IPv6 address without brackets; write it like [2001:db8::1]:443")]
    Ipv6WithoutBrackets,
    #[error("has {0} in brackets, which is not an IPv6 address")]
    NotIpv6(String),
    #[error("has the host {0}, which is neither a host name nor an address")]
    Host(String),
    #[error("contains a space or a control character; remove it or write it percent-encoded")]
    Space,
    #[error("has a character in its path or query that must be written percent-encoded")]
    PathOrQuery,
    #[error("has something after the port; a TCP address is only tcp://host:port")]
    AfterPort,
}

impl Error {
    /// The same without any part of the value.
    pub(super) fn hidden(self) -> Self {
        let hidden = || "[hidden]".to_owned();
        match self {
            Self::Scheme(_) => Self::Scheme(hidden()),
            Self::TcpScheme(_) => Self::TcpScheme(hidden()),
            Self::Port(_) => Self::Port(hidden()),
            Self::NotIpv6(_) => Self::NotIpv6(hidden()),
            Self::Host(_) => Self::Host(hidden()),
            other => other,
        }
    }
}

/// A host as written, without brackets, and the port if there is one.
struct Authority {
    host: Host,
    port: Option<u16>,
}

enum Host {
    /// Name or IPv4 address.
    Name(String),
    Ipv6(Ipv6Addr),
}

impl Host {
    fn bare(&self) -> String {
        match self {
            Self::Name(name) => name.clone(),
            Self::Ipv6(address) => address.to_string(),
        }
    }

    fn bracketed(&self) -> String {
        match self {
            Self::Name(name) => name.clone(),
            Self::Ipv6(address) => format!("[{address}]"),
        }
    }
}

/// Whether the value names its scheme.
pub(super) fn has_scheme(value: &str) -> bool {
    split_scheme(value).0.is_some()
}

/// Whether an HTTP URL is scheme, host and port alone: paths and queries may hold keys.
pub(crate) fn is_bare(value: &str) -> bool {
    let url = parse_http(value);
    !value.contains('#') && url.is_ok_and(|url| matches!(&*url.path, "" | "/") && url.query.is_none())
}

/// Whether it is the address of a TCP target, which has no room for anything else.
pub(crate) fn is_tcp(value: &str) -> bool {
    parse_tcp(value).is_ok()
}

/// An HTTP URL; without scheme it is `http`. The fragment is dropped.
pub(super) fn parse_http(value: &str) -> Result<TargetUrl, Error> {
    let (scheme, rest) = split_scheme(value);
    let scheme = match scheme {
        None => Scheme::Http,
        Some(s) if s.eq_ignore_ascii_case("http") => Scheme::Http,
        Some(s) if s.eq_ignore_ascii_case("https") => Scheme::Https,
        Some(other) => return Err(Error::Scheme(quoted(&format!("{other}://")))),
    };
    let rest = rest.split('#').next().unwrap_or_default();
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path_and_query) = rest.split_at(end);
    let authority = parse_authority(authority)?;
    let (path, query) = split_path(path_and_query)?;
    let port = authority.port.unwrap_or_else(|| scheme.default_port());
    Ok(TargetUrl {
        scheme,
        host: authority.host.bare(),
        port,
        authority: authority_header(&authority.host, port, scheme),
        path,
        query,
    })
}

/// `tcp://host:port` or `host:port`; one trailing `/` is tolerated.
pub(super) fn parse_tcp(value: &str) -> Result<(String, u16), Error> {
    let (scheme, rest) = split_scheme(value);
    if let Some(other) = scheme.filter(|s| !s.eq_ignore_ascii_case("tcp")) {
        return Err(Error::TcpScheme(quoted(&format!("{other}://"))));
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains('@') {
        return Err(Error::UserInfo);
    }
    if rest.contains(['/', '?', '#']) {
        return Err(Error::AfterPort);
    }
    let authority = parse_authority(rest)?;
    let port = authority.port.ok_or(Error::NoPort)?;
    Ok((authority.host.bare(), port))
}

fn split_scheme(value: &str) -> (Option<&str>, &str) {
    match value.split_once("://") {
        Some((scheme, rest)) if !scheme.contains(['/', '?', '#', '@']) => (Some(scheme), rest),
        _ => (None, value),
    }
}

fn parse_authority(text: &str) -> Result<Authority, Error> {
    if text.contains('@') {
        return Err(Error::UserInfo);
    }
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(Error::Space);
    }
    if let Some(rest) = text.strip_prefix('[') {
        return parse_bracketed(rest);
    }
    let (host, port) = match text.split_once(':') {
        Some((_, port)) if port.contains(':') => return Err(Error::Ipv6WithoutBrackets),
        Some((host, port)) => (host, Some(parse_port(port)?)),
        None => (text, None),
    };
    let host = Host::Name(parse_host(host)?);
    Ok(Authority { host, port })
}

fn parse_bracketed(rest: &str) -> Result<Authority, Error> {
    let (literal, port) = rest.split_once(']').ok_or(Error::NoHost)?;
    let address = literal.parse();
    let address = address.map_err(|_no_detail: std::net::AddrParseError| Error::NotIpv6(quoted(literal)))?;
    let port = match port.strip_prefix(':') {
        Some(port) => Some(parse_port(port)?),
        None if port.is_empty() => None,
        None => return Err(Error::PortNotANumber),
    };
    let host = Host::Ipv6(address);
    Ok(Authority { host, port })
}

fn parse_port(text: &str) -> Result<u16, Error> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Error::PortNotANumber);
    }
    text.parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| Error::Port(quoted(text)))
}

fn parse_host(text: &str) -> Result<String, Error> {
    if text.is_empty() {
        return Err(Error::NoHost);
    }
    let refused = || Error::Host(quoted(text));
    let host = idna::domain_to_ascii(text).map_err(|_no_detail| refused())?;
    let name = host.strip_suffix('.').unwrap_or(&host);
    let is_host = name.len() <= 253 && name.split('.').all(is_label);
    // `getaddrinfo` would take "127.1" or "0x7f000001" for an address.
    let fine = is_host && (!ends_in_number(name) || name.parse::<Ipv4Addr>().is_ok());
    if fine { Ok(host) } else { Err(refused()) }
}

/// Underscores are no letters of host names, but container networks use them.
fn is_label(label: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=63).contains(&label.len())
        && label.bytes().all(allowed)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

fn ends_in_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x")
}

fn split_path(text: &str) -> Result<(String, Option<String>), Error> {
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(Error::Space);
    }
    let is_valid = text.is_ascii() && (text.is_empty() || PathAndQuery::try_from(text).is_ok());
    if !is_valid {
        return Err(Error::PathOrQuery);
    }
    Ok(match text.split_once('?') {
        Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
        None => (text.to_owned(), None),
    })
}

fn authority_header(host: &Host, port: u16, scheme: Scheme) -> HeaderValue {
    let host = host.bracketed();
    let authority = if port == scheme.default_port() {
        host
    } else {
        format!("{host}:{port}")
    };
    HeaderValue::try_from(authority).expect("a checked host has only letters of header values")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(value: &str) -> String {
        match parse_http(value) {
            Ok(url) => format!(
                "{} host={} port={} path={} query={:?}",
                url.origin(),
                url.host,
                url.port,
                url.path,
                url.query
            ),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn urls_are_split_as_documented() {
        let cases = [
            ("https://h", "https://h host=h port=443 path= query=None"),
            ("HTTPS://H:443/a", "https://h host=h port=443 path=/a query=None"),
            ("h:8080/p", "http://h:8080 host=h port=8080 path=/p query=None"),
            (
                "http://h?x=1",
                "http://h host=h port=80 path= query=Some(\"x=1\")",
            ),
            (
                "https://h/a/?k=1#part",
                "https://h host=h port=443 path=/a/ query=Some(\"k=1\")",
            ),
            (
                "https://[2001:DB8::1]:8443/",
                "https://[2001:db8::1]:8443 host=2001:db8::1 port=8443 path=/ query=None",
            ),
            (
                "https://bücher.example/",
                "https://xn--bcher-kva.example host=xn--bcher-kva.example port=443 path=/ query=None",
            ),
            (
                "http://my_service:80/%2F..",
                "http://my_service host=my_service port=80 path=/%2F.. query=None",
            ),
            (
                "http://127.0.0.1:3000",
                "http://127.0.0.1:3000 host=127.0.0.1 port=3000 path= query=None",
            ),
            (
                "http://h/?to=http://x",
                "http://h host=h port=80 path=/ query=Some(\"to=http://x\")",
            ),
        ];
        for (value, expected) in cases {
            assert_eq!(shown(value), expected, "{value}");
        }
    }

    #[test]
    fn bad_urls_are_refused() {
        let cases = [
            ("ftp://h", Error::Scheme("\"ftp://\"".into())),
            ("https://", Error::NoHost),
            ("https:///path", Error::NoHost),
            ("https://me:pw@h/", Error::UserInfo),
            ("https://h:0/", Error::Port("\"0\"".into())),
            ("https://h:65536/", Error::Port("\"65536\"".into())),
            ("https://h:/", Error::PortNotANumber),
            ("mailto:someone", Error::PortNotANumber),
            ("https://::1/", Error::Ipv6WithoutBrackets),
            ("https://[::g]/", Error::NotIpv6("\"::g\"".into())),
            ("https://[::1]8/", Error::PortNotANumber),
            ("https://127.1/", Error::Host("\"127.1\"".into())),
            ("https://2130706433/", Error::Host("\"2130706433\"".into())),
            ("https://a..b/", Error::Host("\"a..b\"".into())),
            ("https://-a/", Error::Host("\"-a\"".into())),
            ("https://h /", Error::Space),
            ("https://h/a b", Error::Space),
            ("https://h/ä", Error::PathOrQuery),
        ];
        for (value, expected) in cases {
            assert_eq!(parse_http(value), Err(expected), "{value}");
        }
    }

    #[test]
    fn tcp_addresses_need_a_port_and_nothing_else() {
        assert_eq!(parse_tcp("tcp://db:5432"), Ok(("db".into(), 5432)));
        assert_eq!(parse_tcp("TCP://db:5432/"), Ok(("db".into(), 5432)));
        assert_eq!(parse_tcp("[::1]:1"), Ok(("::1".into(), 1)));
        assert_eq!(parse_tcp("db"), Err(Error::NoPort));
        assert_eq!(parse_tcp("db:5432/x"), Err(Error::AfterPort));
        assert_eq!(parse_tcp("u@db:5432"), Err(Error::UserInfo));
        let tls = Error::TcpScheme("\"tls://\"".into());
        assert_eq!(parse_tcp("tls://db:5432"), Err(tls));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in "(https?://|tcp://)?\\PC{0,40}") {
            drop(parse_http(&text));
            drop(parse_tcp(&text));
        }

        #[test]
        fn the_origin_of_a_url_is_read_back_the_same(text in "https?://[a-z0-9.:\\[\\]-]{1,20}(/[a-z%?]{0,5})?") {
            if let Ok(url) = parse_http(&text) {
                let again = parse_http(&url.origin()).expect("an origin is a URL");
                prop_assert_eq!((again.scheme, again.host, again.port), (url.scheme, url.host, url.port));
            }
        }
    }
}
