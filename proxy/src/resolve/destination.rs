//! A destination, interpreted: everything the later stages need, checked once.
//!
//! [`interpret`] (in `destination/parse.rs`) is the only way from
//! [`Properties`](super::properties::Properties) to here, whatever the source.

mod authentication;
mod headers;
mod invalid;
pub mod known;
mod parse;
mod reader;
pub mod schema;
mod tcp;
pub mod url;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::keystore::{CertificateStore, ClientIdentity};
use crate::secret::Secret;

pub use self::invalid::{Invalid, Problem, StoreError, Warning};
pub(crate) use self::invalid::{property_name, quoted};
pub use self::parse::{Interpretation, interpret};
pub use self::reader::KeyStores;

/// Who delivers the properties: what is fine on a developer's machine is not in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Files, read by whoever may read what is in them. Loopback targets are allowed.
    Files,
    /// Kubernetes Secrets, read on behalf of others: no message quotes a value.
    Secrets,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Files => "files",
            Self::Secrets => "Secrets",
        })
    }
}

/// The `Name` of a destination: 1–200 letters, digits, `_`, `-` and `.`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DestinationName(Arc<str>);

impl DestinationName {
    /// For names that were checked already; `parse.rs` checks what users wrote.
    pub(crate) fn new_unchecked(name: &str) -> Self {
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DestinationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DestinationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One destination as configured. Two equal configurations have the same [`Version`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    pub name: DestinationName,
    /// Port of the virtual IP: 80 for HTTP and 20004 for TCP unless configured.
    pub service_port: u16,
    pub protocol: Protocol,
    pub version: Version,
    /// What was ignored and why; logged once per version.
    pub warnings: Vec<Warning>,
}

/// A hash over everything that was configured, secrets and key stores included
/// (keyed with a random key of this process, so that it tells nothing about them).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version(pub u64);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protocol {
    /// `Type: HTTP`
    Http(Arc<HttpDestination>),
    /// `Type: TCP`
    Tcp(Arc<TcpDestination>),
}

impl Protocol {
    /// The value of the property `Type`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Http(_) => "HTTP",
            Self::Tcp(_) => "TCP",
        }
    }

    /// Where it leads, with nothing that must not be shown.
    pub fn target(&self) -> String {
        match self {
            Self::Http(http) => http.url.origin(),
            Self::Tcp(tcp) if tcp.host.contains(':') => format!("tcp://[{}]:{}", tcp.host, tcp.port),
            Self::Tcp(tcp) => format!("tcp://{}:{}", tcp.host, tcp.port),
        }
    }

    /// The value of the property `Authentication`, where there is one.
    pub fn authentication(&self) -> Option<&'static str> {
        match self {
            Self::Http(http) => Some(http.authentication.as_str()),
            Self::Tcp(_) => None,
        }
    }
}

/// `Type: HTTP`, `ProxyType: Internet`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpDestination {
    pub url: TargetUrl,
    pub authentication: Authentication,
    /// `URL.headers.*`, in ascending byte order of the key as written; values are marked sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// `URL.queries.*`, percent-encoded and joined with `&`, in ascending byte order of the key.
    pub queries: Secret,
    /// `URL.connectionTimeoutInSeconds`
    pub connect_timeout: Duration,
    /// `URL.socketReadTimeoutInSeconds`
    pub read_timeout: Duration,
    /// How TLS is done; only for `https://`.
    pub tls: Option<Arc<TlsPolicy>>,
}

/// Where an HTTP destination's requests go.
#[derive(Clone, PartialEq, Eq)]
pub struct TargetUrl {
    pub scheme: Scheme,
    /// Name (IDNA-encoded, lower case) or address; IPv6 literals without brackets.
    pub host: String,
    pub port: u16,
    /// For the `Host` header: brackets kept, port left out where it is the scheme's default.
    pub authority: HeaderValue,
    /// Base path exactly as configured: empty, or starting with `/`.
    pub path: String,
    /// Query contained in the URL, without `?`.
    pub query: Option<String>,
}

impl TargetUrl {
    /// Scheme, host and port: all of a URL that may be shown, since paths and queries may hold keys.
    pub fn origin(&self) -> String {
        let authority = String::from_utf8_lossy(self.authority.as_bytes());
        format!("{}://{authority}", self.scheme.as_str())
    }
}

impl fmt::Debug for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// Server verification and client identity towards `https://` targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsPolicy {
    /// `TrustAll: TRUE`: neither chain nor name are verified.
    pub trust_all: bool,
    /// `TrustStoreLocation` (and the CAs of a client key store): added to the default roots.
    pub trust_store: CertificateStore,
    /// `HostnameVerifier`
    pub hostname_verifier: HostnameVerifier,
    /// `KeyStoreLocation` of `ClientCertificateAuthentication`.
    pub client_identity: Option<ClientIdentity>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostnameVerifier {
    /// A wildcard covers exactly one label; only subjectAltName counts.
    #[default]
    Strict,
    /// A wildcard covers several labels; the CN counts where no DNS subjectAltName exists.
    BrowserCompatible,
}

/// `Authentication` of an HTTP destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication {
    NoAuthentication,
    Basic {
        user: String,
        password: Secret,
    },
    /// The identity itself is in [`TlsPolicy::client_identity`].
    ClientCertificate,
    OAuth2ClientCredentials(Arc<OAuth2Client>),
    OAuth2Password {
        client: Arc<OAuth2Client>,
        user: String,
        password: Secret,
    },
}

impl Authentication {
    /// The value of the property `Authentication`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NoAuthentication => "NoAuthentication",
            Self::Basic { .. } => "BasicAuthentication",
            Self::ClientCertificate => "ClientCertificateAuthentication",
            Self::OAuth2ClientCredentials(_) => "OAuth2ClientCredentials",
            Self::OAuth2Password { .. } => "OAuth2Password",
        }
    }
}

/// What the proxy needs to fetch a token itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OAuth2Client {
    /// `tokenServiceURL`
    pub token_service_url: TargetUrl,
    pub client_id: String,
    /// `clientSecret`; absent with mTLS.
    pub client_secret: Option<Secret>,
    /// `tokenServiceUser`, `tokenServicePassword`: HTTP Basic towards the token service, instead of the client's own.
    pub token_service_user: Option<(String, Secret)>,
    /// `tokenService.addClientCredentialsInBody`, default true.
    pub credentials_in_body: bool,
    pub scope: Option<String>,
    /// `tokenService.body.*`: further form fields.
    pub body: Vec<(String, Secret)>,
    /// `tokenServiceURL.headers.*`
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// `tokenServiceURL.queries.*`, encoded like [`HttpDestination::queries`].
    pub queries: Secret,
    /// `tokenServiceURL.ConnectionTimeoutInSeconds`: 0–60, default 10; 0 means the default.
    pub connect_timeout: Duration,
    /// `tokenServiceURL.SocketReadTimeoutInSeconds`: 0–600, default 10; 0 means the default.
    pub read_timeout: Duration,
    /// `tokenService.KeyStoreLocation` for mTLS, and the trust settings of the destination.
    pub tls: Option<Arc<TlsPolicy>>,
}

/// `Type: TCP`, `ProxyType: Internet`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpDestination {
    /// Name (IDNA-encoded, lower case) or address; IPv6 literals without brackets.
    pub host: String,
    pub port: u16,
    pub connect_timeout: Duration,
    pub socket: SocketOptions,
}

/// `tcp.*`: options of the socket to the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketOptions {
    /// `tcp.nodelay`, default true
    pub nodelay: bool,
    /// `tcp.socket.keepalive`, default true
    pub keepalive: bool,
    /// `tcp.socket.linger` in seconds; negative is off
    pub linger: Option<Duration>,
    /// `tcp.socket.sndbuf` in bytes
    pub send_buffer: Option<usize>,
    /// `tcp.socket.rcvbuf` in bytes
    pub receive_buffer: Option<usize>,
    /// `tcp.socket.timeout` in milliseconds, as idle limit of the connection
    pub idle_timeout: Option<Duration>,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            nodelay: true,
            keepalive: true,
            linger: None,
            send_buffer: None,
            receive_buffer: None,
            idle_timeout: None,
        }
    }
}
