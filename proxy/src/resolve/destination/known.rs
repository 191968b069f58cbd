//! Every property the proxy knows: for hints about typing errors, the JSON Schema and the reference page.

/// What a property holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Secret,
    Boolean,
    /// Whole numbers from the first to the second.
    Integer(i64, i64),
    /// One of these texts, in any case.
    Choice(&'static [&'static str]),
}

#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// Ends with `.` if a key of the user's choice follows.
    pub name: &'static str,
    pub kind: Kind,
    pub default: Option<&'static str>,
    pub description: &'static str,
}

const fn known(
    name: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    description: &'static str,
) -> Known {
    Known {
        name,
        kind,
        default,
        description,
    }
}

pub const TYPES: &[&str] = &["HTTP", "TCP"];
pub const AUTHENTICATIONS: &[&str] = &[
    "NoAuthentication",
    "BasicAuthentication",
    "ClientCertificateAuthentication",
    "OAuth2ClientCredentials",
    "OAuth2Password",
];

/// Properties with an effect, in the order of the reference page.
#[rustfmt::skip]
pub const PROPERTIES: &[Known] = &[
    known("Name", Kind::Text, None, "Name of the destination, and the host name that applications use: 1 to 200 letters, digits, \"_\", \"-\" and \".\"."),
    known("Type", Kind::Choice(TYPES), None, "Protocol of the destination."),
    known("ProxyType", Kind::Choice(&["Internet"]), Some("Internet"), "How the target is reached."),
    known("service.port", Kind::Integer(1, 65_535), None, "Port of the virtual IP, which applications connect to; 80 for HTTP and 20004 for TCP unless set."),
    known("URL", Kind::Text, None, "Target of an HTTP destination: http:// or https:// (http:// if left out), host, port, base path and query."),
    known("URL.connectionTimeoutInSeconds", Kind::Integer(1, 300), Some("5"), "Seconds for the connection to the target, TLS included."),
    known("URL.socketReadTimeoutInSeconds", Kind::Integer(1, 43_200), Some("30"), "Seconds to wait for data from the target."),
    known("URL.headers.", Kind::Secret, None, "Header that is added to each request."),
    known("URL.queries.", Kind::Secret, None, "Query parameter that is added to each request."),
    known("Authentication", Kind::Choice(AUTHENTICATIONS), Some("NoAuthentication"), "How the proxy authenticates to an HTTP target."),
    known("User", Kind::Text, None, "User of BasicAuthentication and OAuth2Password."),
    known("Password", Kind::Secret, None, "Password of User."),
    known("Preemptive", Kind::Boolean, Some("true"), "Accepted for compatibility; credentials are always sent with the first request."),
    known("TrustAll", Kind::Boolean, Some("false"), "Switches the verification of the target's certificate off. For tests only."),
    known("TrustStoreLocation", Kind::Text, None, "File in the folder of the destination with certificates that are trusted beside the system's."),
    known("TrustStorePassword", Kind::Secret, None, "Password of TrustStoreLocation."),
    known("HostnameVerifier", Kind::Choice(&["Strict", "BrowserCompatible"]), Some("Strict"), "How the target's certificate must name the host."),
    known("KeyStoreLocation", Kind::Text, None, "File in the folder of the destination with the client certificate and its key."),
    known("KeyStorePassword", Kind::Secret, None, "Password of KeyStoreLocation."),
    known("KeyStore.Source", Kind::Choice(&["DestinationService"]), Some("DestinationService"), "Accepted for compatibility."),
    known("tokenServiceURL", Kind::Text, None, "Where the proxy fetches OAuth2 tokens, with http:// or https://."),
    known("tokenServiceURLType", Kind::Choice(&["Dedicated"]), Some("Dedicated"), "Accepted for compatibility."),
    known("tokenServiceURL.ProxyType", Kind::Choice(&["Internet"]), Some("Internet"), "How the token service is reached."),
    known("tokenServiceURL.ConnectionTimeoutInSeconds", Kind::Integer(0, 60), Some("10"), "Seconds for the connection to the token service; 0 means the default."),
    known("tokenServiceURL.SocketReadTimeoutInSeconds", Kind::Integer(0, 600), Some("10"), "Seconds to wait for the token service's answer; 0 means the default."),
    known("tokenServiceURL.headers.", Kind::Secret, None, "Header that is added to each token request."),
    known("tokenServiceURL.queries.", Kind::Secret, None, "Query parameter that is added to each token request."),
    known("clientId", Kind::Text, None, "OAuth2 client."),
    known("clientSecret", Kind::Secret, None, "Secret of clientId."),
    known("tokenServiceUser", Kind::Text, None, "User for HTTP Basic towards the token service, in place of the client's own identity."),
    known("tokenServicePassword", Kind::Secret, None, "Password of tokenServiceUser."),
    known("scope", Kind::Text, None, "Scopes to ask for, separated by spaces."),
    known("tokenService.addClientCredentialsInBody", Kind::Boolean, Some("true"), "Whether client id and secret are sent in the body of the token request or as HTTP Basic."),
    known("tokenService.body.", Kind::Secret, None, "Field that is added to the body of each token request."),
    known("tokenService.KeyStoreLocation", Kind::Text, None, "File in the folder of the destination with the client certificate for the token service."),
    known("tokenService.KeyStorePassword", Kind::Secret, None, "Password of tokenService.KeyStoreLocation."),
    known("Address", Kind::Text, None, "Target of a TCP destination: tcp://host:port or host:port."),
    known("tcp.nodelay", Kind::Boolean, Some("true"), "TCP_NODELAY on the connection to the target."),
    known("tcp.socket.keepalive", Kind::Boolean, Some("true"), "SO_KEEPALIVE on the connection to the target."),
    known("tcp.socket.linger", Kind::Integer(-1, 65_535), Some("-1"), "SO_LINGER in seconds; negative is off."),
    known("tcp.socket.sndbuf", Kind::Integer(0, 1_073_741_824), Some("0"), "SO_SNDBUF in bytes; 0 leaves it to the kernel."),
    known("tcp.socket.rcvbuf", Kind::Integer(0, 1_073_741_824), Some("0"), "SO_RCVBUF in bytes; 0 leaves it to the kernel."),
    known("tcp.socket.timeout", Kind::Integer(0, 2_147_483_647), Some("0"), "Milliseconds without any byte after which a connection is closed; 0 is never."),
    known("tcp.socket.reuseaddr", Kind::Boolean, None, "Accepted for compatibility; has no meaning for outgoing connections."),
    known("Description", Kind::Text, None, "Free text."),
];

/// Known elsewhere and without effect here, so that they cause no hints.
const WITHOUT_EFFECT: &[&str] = &[
    "CloudConnectorLocationId",
    "CloudConnectorVersion",
    "cloudConnectorVersion",
    "forwardAuthToken",
    "sap-client",
    "sap-language",
    "sap-platform",
    "x-sap-security-session",
    "SystemUser",
    "SAMLAssertionProvider",
    "clientKey",
    "clientAssertion.type",
    "clientAssertion.destinationName",
    "x_user_token.jwks",
    "x_user_token.jwks_uri",
    "x_user_token.header.typ",
];
const WITHOUT_EFFECT_PREFIXES: &[&str] = &["WebIDE", "HTML5.", "ldap.", "mail.", "jco."];

/// Whether a property holds nothing but a secret. Headers, queries and fields of the
/// user's choice may hold anything.
pub(crate) fn is_secret(name: &str) -> bool {
    let is = |known: &Known| known.kind == Kind::Secret && known.name == name;
    PROPERTIES.iter().any(is)
}

/// The known property that `name` was perhaps meant to be; None if `name` is known or unlike all.
pub(super) fn meant(name: &str) -> Option<String> {
    if is_known(name) {
        return None;
    }
    let prefixes = PROPERTIES.iter().filter(|known| known.name.ends_with('.'));
    let with_key = prefixes.filter_map(|known| meant_prefix(name, known.name));
    let whole = PROPERTIES.iter().map(|known| known.name);
    let whole = whole.filter(|known| !known.ends_with('.'));
    let whole = whole.map(|known| (distance(name, known), known.to_owned()));
    with_key
        .chain(whole)
        .filter(|(distance, known)| *distance <= tolerance(known))
        .min()
        .map(|(_, known)| known)
}

pub(crate) fn is_known(name: &str) -> bool {
    let is = |known: &Known| name == known.name || known.name.ends_with('.') && name.starts_with(known.name);
    let listed = PROPERTIES.iter().any(is);
    let prefixed = WITHOUT_EFFECT_PREFIXES.iter().any(|p| name.starts_with(p));
    listed || prefixed || WITHOUT_EFFECT.contains(&name)
}

/// Compares as many dot-separated parts of `name` as the prefix has.
fn meant_prefix(name: &str, prefix: &str) -> Option<(usize, String)> {
    let parts = prefix.matches('.').count();
    let (end, _) = name.match_indices('.').nth(parts - 1)?;
    let (head, key) = name.split_at(end + 1);
    Some((distance(head, prefix), format!("{prefix}{key}")))
}

/// Short names are like many others by accident.
fn tolerance(name: &str) -> usize {
    if name.len() <= 4 { 1 } else { 2 }
}

fn distance(left: &str, right: &str) -> usize {
    strsim::osa_distance(&left.to_ascii_lowercase(), &right.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_are_recognised() {
        let cases = [
            ("name", Some("Name")),
            ("url", Some("URL")),
            ("Passwort", Some("Password")),
            ("Authentification", Some("Authentication")),
            ("url.headers.X-Key", Some("URL.headers.X-Key")),
            ("URL.header.X-Key", Some("URL.headers.X-Key")),
            ("tokenServiceUrl", Some("tokenServiceURL")),
            ("tokenService.Body.a", Some("tokenService.body.a")),
            ("Name", None),
            ("URL.headers.X-Key", None),
            ("department", None),
            ("HTML5.Timeout", None),
        ];
        for (name, expected) in cases {
            assert_eq!(meant(name).as_deref(), expected, "{name}");
        }
    }
}
