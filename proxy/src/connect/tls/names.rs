//! `HostnameVerifier: BrowserCompatible`.

use std::net::IpAddr;

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Whether `host` matches any DNS name of the certificate, or its first common name
/// if it has none. Wildcards cover several labels.
pub(super) fn browser_compatible(certificate: &CertificateDer<'_>, host: &str) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return false;
    };
    let dns_names = dns_names(&certificate);
    if dns_names.is_empty() {
        let common_name = certificate.subject().iter_common_name().next();
        return common_name
            .and_then(|name| name.as_str().ok())
            .is_some_and(|name| matches(name, host));
    }
    dns_names.iter().any(|name| matches(name, host))
}

/// The same for an address: only without any subjectAltName, and in full.
pub(super) fn common_name_is(certificate: &CertificateDer<'_>, address: IpAddr) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return false;
    };
    let without_names = matches!(certificate.subject_alternative_name(), Ok(None));
    without_names && common_name(&certificate).and_then(|name| name.parse().ok()) == Some(address)
}

fn common_name<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a str> {
    certificate.subject().iter_common_name().next()?.as_str().ok()
}

fn dns_names<'a>(certificate: &X509Certificate<'a>) -> Vec<&'a str> {
    let extension = certificate.subject_alternative_name().ok().flatten();
    let names = extension.map(|extension| extension.value.general_names.iter());
    names
        .into_iter()
        .flatten()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(*name),
            _ => None,
        })
        .collect()
}

/// At least two labels must follow a wildcard, or `*.com` would do for everybody.
fn matches(pattern: &str, host: &str) -> bool {
    let pattern = pattern.strip_suffix('.').unwrap_or(pattern);
    if let Some(domain) = pattern.strip_prefix("*.") {
        let labels = domain.split('.').filter(|label| !label.is_empty()).count();
        return labels >= 2 && is_below(host, domain);
    }
    pattern.eq_ignore_ascii_case(host)
}

fn is_below(host: &str, domain: &str) -> bool {
    let Some(cut) = host.len().checked_sub(domain.len() + 1) else {
        return false;
    };
    cut > 0
        && host.as_bytes()[cut] == b'.'
        && host
            .get(cut + 1..)
            .is_some_and(|end| end.eq_ignore_ascii_case(domain))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_wildcard_covers_one_or_several_labels() {
        assert!(matches("*.foo.com", "a.foo.com"));
        assert!(matches("*.foo.com", "a.b.foo.com"));
        assert!(matches("*.Foo.com", "a.fOO.com"));
    }

    #[test]
    fn a_wildcard_covers_neither_nothing_nor_a_part_of_a_label() {
        for host in [
            "foo.com",
            ".foo.com",
            "afoo.com",
            "com",
            "a.foo.com.evil.org",
            "a.foo.org",
        ] {
            assert!(!matches("*.foo.com", host), "{host}");
        }
    }

    #[test]
    fn two_labels_must_follow_a_wildcard() {
        for pattern in ["*", "*.", "*.com", "*..com", "*.com."] {
            assert!(!matches(pattern, "a.com"), "{pattern}");
            assert!(!matches(pattern, "a.b.com"), "{pattern}");
        }
    }

    #[test]
    fn without_a_wildcard_names_are_equal_but_for_case() {
        assert!(matches("Foo.com", "foo.COM"));
        assert!(!matches("foo.com", "a.foo.com"));
        assert!(!matches("", "foo.com"));
        assert!(!matches("a.*.com", "a.b.com"));
    }
}
