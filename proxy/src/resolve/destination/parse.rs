//! From properties to a destination.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::invalid::{Invalid, Problem, Warning};
use super::known;
use super::reader::{KeyStores, Reader};
use super::{
    Authentication, Destination, DestinationName, HostnameVerifier, HttpDestination, Protocol, Scheme,
    Source, TargetUrl, TlsPolicy,
};
use super::{authentication, headers, tcp};
use crate::resolve::keystore::{CertificateStore, ClientIdentity};
use crate::resolve::properties::Properties;

/// What became of a set of properties. The warnings stand for themselves, because
/// they often explain why the destination is refused.
#[derive(Debug)]
pub struct Interpretation {
    pub destination: Result<Destination, Vec<Invalid>>,
    pub warnings: Vec<Warning>,
}

impl Interpretation {
    pub(crate) fn refuses(&self, property: &str) -> bool {
        let invalid = self.destination.as_ref().err();
        invalid.is_some_and(|all| all.iter().any(|invalid| invalid.property == property))
    }
}

/// Checks and interprets everything; reports all that is wrong, not only the first.
pub fn interpret(properties: &Properties, stores: &dyn KeyStores, source: Source) -> Interpretation {
    let mut reader = Reader::new(properties, stores, source);
    if source == Source::Secrets {
        refuse_references(&mut reader);
    }
    hint_at_typing_errors(&mut reader);
    let name = name(&mut reader);
    let protocol = protocol(&mut reader);
    let service_port = service_port(&mut reader);
    let version = reader.version();
    let warnings = reader.warnings;
    let destination = match (name, protocol) {
        (Some(name), Some(protocol)) if reader.invalid.is_empty() => Ok(Destination {
            name,
            service_port: service_port.unwrap_or_else(|| default_service_port(&protocol)),
            protocol,
            version,
            warnings: warnings.clone(),
        }),
        _ => Err(reader.invalid),
    };
    Interpretation {
        destination,
        warnings,
    }
}

/// What files may take out of the environment or other files would be the proxy's own here.
fn refuse_references(reader: &mut Reader<'_>) {
    for name in reader.properties.names() {
        let value = reader.properties.get(name).unwrap_or_default();
        let kinds = [("env", "${env:"), ("file", "${file:")];
        if let Some((kind, _)) = kinds.iter().find(|(_, start)| value.contains(start)) {
            reader.refuse(name, Problem::Reference(kind));
        }
    }
}

fn hint_at_typing_errors(reader: &mut Reader<'_>) {
    for name in reader.properties.names() {
        let Some(meant) = known::meant(name) else {
            continue;
        };
        // Names that users made up may be anything; only the known one is certain to be presentable.
        reader.warn(
            name,
            format!("is not a known property and is ignored; did you mean {meant}?"),
        );
    }
}

fn name(reader: &mut Reader<'_>) -> Option<DestinationName> {
    let value = reader.required("Name", "give the destination a name, like my-destination")?;
    let written = reader.properties.get("Name").unwrap_or(value);
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let value = reader.quote("Name");
    if written.len() > 200 || !written.chars().all(allowed) {
        reader.refuse("Name", Problem::NotAName { value });
        return None;
    }
    // Applications use the name of the Destination CR.
    if reader.source == Source::Secrets {
        return Some(DestinationName::new_unchecked(written));
    }
    if written.eq_ignore_ascii_case("localhost") || written.parse::<IpAddr>().is_ok() {
        reader.refuse("Name", Problem::ReservedName { value });
        return None;
    }
    if !written.split('.').all(is_host_label) {
        reader.warn(
            "Name",
            "cannot be used as a host name by most applications: its parts between dots should have 1 to 63 characters and start with a letter or digit",
        );
    }
    Some(DestinationName::new_unchecked(written))
}

fn is_host_label(label: &str) -> bool {
    (1..=63).contains(&label.len()) && label.starts_with(|c: char| c.is_ascii_alphanumeric())
}

fn protocol(reader: &mut Reader<'_>) -> Option<Protocol> {
    let kind = reader.required("Type", "set it to HTTP or TCP")?;
    if kind.eq_ignore_ascii_case("HTTP") {
        return Some(Protocol::Http(Arc::new(http(reader)?)));
    }
    if kind.eq_ignore_ascii_case("TCP") {
        return Some(Protocol::Tcp(Arc::new(tcp::destination(reader)?)));
    }
    let instead = "use a destination of type HTTP or TCP";
    reader.refuse_value("Type", kind, &["LDAP", "MAIL", "RFC"], instead, "HTTP or TCP");
    None
}

fn http(reader: &mut Reader<'_>) -> Option<HttpDestination> {
    internet_only(reader, "ProxyType");
    let url = reader.http_url("URL", "set it to the target, like https://host:port/path");
    if url.is_none() && reader.optional("Address").is_some() {
        reader.warn(
            "Address",
            "belongs to Type TCP and is ignored; Type HTTP takes URL",
        );
    }
    let trust = trust(reader, url.as_ref());
    let (authentication, identity) = authentication::authentication(reader, url.as_ref(), &trust).unzip();
    let headers = headers::headers(reader, "URL.headers.");
    let queries = headers::queries(reader, "URL.queries.");
    let connect_timeout = connect_timeout(reader);
    let read_timeout = reader.lenient_number("URL.socketReadTimeoutInSeconds", 1, 43_200, 30);
    let url = url?;
    Some(HttpDestination {
        tls: tls(&url, &trust, identity?),
        authentication: authentication?,
        headers,
        queries,
        connect_timeout,
        read_timeout: seconds(read_timeout),
        url,
    })
}

pub(super) fn connect_timeout(reader: &mut Reader<'_>) -> Duration {
    seconds(reader.lenient_number("URL.connectionTimeoutInSeconds", 1, 300, 5))
}

pub(super) fn seconds(number: i64) -> Duration {
    Duration::from_secs(number.unsigned_abs())
}

/// How servers are verified: towards the target and towards the token service.
#[derive(Debug, Clone, Default)]
pub(super) struct Trust {
    all: bool,
    store: CertificateStore,
    hostname_verifier: HostnameVerifier,
}

impl Trust {
    pub(super) fn policy(&self, identity: Option<ClientIdentity>) -> TlsPolicy {
        let mut trust_store = self.store.clone();
        // Key stores often carry the private CA that signed both sides.
        if let Some(identity) = &identity {
            trust_store.0.extend(identity.chain.iter().skip(1).cloned());
        }
        TlsPolicy {
            trust_all: self.all,
            trust_store,
            hostname_verifier: self.hostname_verifier,
            client_identity: identity,
        }
    }
}

fn trust(reader: &mut Reader<'_>, url: Option<&TargetUrl>) -> Trust {
    let all = reader.boolean("TrustAll", false);
    let hostname_verifier = hostname_verifier(reader);
    let plain = url.is_some_and(|url| url.scheme == Scheme::Http);
    if plain && reader.optional("TrustStoreLocation").is_some() {
        let url_property = "URL";
        reader.refuse("TrustStoreLocation", Problem::NeedsHttps { url_property });
        return Trust::default();
    }
    if all {
        reader.warn("TrustAll", "is true: the target's certificate is not verified");
        if reader.optional("TrustStoreLocation").is_some() {
            reader.warn("TrustStoreLocation", "is ignored, because TrustAll is true");
        }
        return Trust {
            all,
            ..Trust::default()
        };
    }
    Trust {
        all,
        store: reader.trust_store(),
        hostname_verifier,
    }
}

fn hostname_verifier(reader: &mut Reader<'_>) -> HostnameVerifier {
    let value = reader.optional("HostnameVerifier").unwrap_or("Strict");
    if value.eq_ignore_ascii_case("Strict") {
        return HostnameVerifier::Strict;
    }
    if value.eq_ignore_ascii_case("BrowserCompatible") {
        return HostnameVerifier::BrowserCompatible;
    }
    reader.refuse_value("HostnameVerifier", value, &[], "", "Strict or BrowserCompatible");
    HostnameVerifier::default()
}

fn tls(url: &TargetUrl, trust: &Trust, identity: Option<ClientIdentity>) -> Option<Arc<TlsPolicy>> {
    match url.scheme {
        Scheme::Http => None,
        Scheme::Https => Some(Arc::new(trust.policy(identity))),
    }
}

/// `Internet`, also when absent; everything else is refused.
pub(super) fn internet_only(reader: &mut Reader<'_>, property: &'static str) {
    let Some(kind) = reader.optional(property) else {
        return;
    };
    if kind.eq_ignore_ascii_case("Internet") {
        return;
    }
    let instead = match reader.source {
        Source::Files => "only Internet works with destinations from files",
        Source::Secrets => "use Internet",
    };
    reader.refuse_value(property, kind, &["OnPremise", "PrivateLink"], instead, "Internet");
}

fn service_port(reader: &mut Reader<'_>) -> Option<u16> {
    let value = reader.optional("service.port")?;
    let port = value.parse().ok().filter(|port| *port != 0);
    if port.is_none() {
        let value = reader.quote("service.port");
        let (min, max) = (1, 65_535);
        reader.refuse("service.port", Problem::NotInRange { value, min, max });
    }
    port
}

fn default_service_port(protocol: &Protocol) -> u16 {
    match protocol {
        Protocol::Http(_) => 80,
        Protocol::Tcp(_) => 20_004,
    }
}

/// The pair of an authentication and the client identity towards the target that it needs.
pub(super) type Authenticated = (Authentication, Option<ClientIdentity>);
