//! Which reason of the condition a property's problem is.

use crate::api::condition::{Reason, Verdict};
use crate::resolve::destination::{Invalid, Problem};
use crate::resolve::source::secrets::Refused;

/// In the order in which they are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Type,
    ProxyType,
    Url,
    TcpAddress,
    Loopback,
    HttpWithStore,
    KeyStore,
    TrustStore,
    /// No reason of its own.
    Other,
}

/// Of a destination whose configuration is invalid: the first problem in the documented order.
pub(super) fn verdict(destination: &str, with_fragment: bool, refused: &Refused) -> Verdict {
    let first = refused.problems.iter().min_by_key(|invalid| class(invalid));
    let Some(first) = first else {
        return Verdict::failed(format!("Destination '{destination}' cannot be used."));
    };
    let reason = reason(first, with_fragment);
    Verdict::not_configured(reason, format!("Destination '{destination}': {first}."))
}

fn class(invalid: &Invalid) -> Class {
    let is_store = matches!(
        invalid.problem,
        Problem::Store(_) | Problem::StoreContent(_) | Problem::Missing(_) | Problem::Empty(_)
    );
    match (invalid.property.as_str(), &invalid.problem) {
        ("URL" | "Address", Problem::Loopback) => Class::Loopback,
        ("Type", _) => Class::Type,
        ("ProxyType", _) => Class::ProxyType,
        ("URL", _) => Class::Url,
        ("Address", _) => Class::TcpAddress,
        (_, Problem::NeedsHttps { url_property: "URL" }) => Class::HttpWithStore,
        ("KeyStoreLocation" | "tokenService.KeyStoreLocation", _) if is_store => Class::KeyStore,
        ("TrustStoreLocation", _) if is_store => Class::TrustStore,
        _ => Class::Other,
    }
}

fn reason(invalid: &Invalid, with_fragment: bool) -> Reason {
    let either = |with: Reason, without: Reason| if with_fragment { with } else { without };
    match class(invalid) {
        Class::Type | Class::ProxyType if is_for_later(&invalid.problem) => Reason::ConfigurationFailed,
        Class::Type => Reason::TypeNotSupported,
        Class::ProxyType => either(
            Reason::WithFragmentProxyTypeNotSupported,
            Reason::ProxyTypeNotSupported,
        ),
        Class::Url => either(Reason::WithFragmentUrlNotSupported, Reason::UrlNotSupported),
        Class::TcpAddress => either(
            Reason::WithFragmentTcpAddressNotSupported,
            Reason::TcpAddressNotSupported,
        ),
        Class::Loopback => either(
            Reason::WithFragmentLoopbackUrlNotSupported,
            Reason::LoopbackUrlNotSupported,
        ),
        Class::HttpWithStore => Reason::HttpUrlWithStoreNotSupported,
        Class::KeyStore => Reason::KeyStoreInvalid,
        Class::TrustStore => Reason::TrustStoreInvalid,
        Class::Other => Reason::ConfigurationFailed,
    }
}

/// Good values that a later version takes on, unlike `RFC` and `PrivateLink`.
fn is_for_later(problem: &Problem) -> bool {
    let later = ["\"LDAP\"", "\"MAIL\"", "\"OnPremise\""];
    matches!(problem, Problem::NotSupportedYet { value, .. } if later.contains(&value.as_str()))
}
