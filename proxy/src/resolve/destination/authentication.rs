//! `Authentication` and what each value needs.

use std::sync::Arc;

use super::headers;
use super::invalid::Problem;
use super::parse::{self, Authenticated, Trust};
use super::reader::Reader;
use super::url;
use super::{Authentication, OAuth2Client, Scheme, Source, TargetUrl, TlsPolicy};
use crate::secret::Secret;

/// Values of the Destination service that a later version of the proxy takes on.
const LATER: &[&str] = &[
    "ClientHandledAuthentication",
    "OAuth2AuthorizationCode",
    "OAuth2JWTBearer",
    "OAuth2RefreshToken",
    "OAuth2SAMLBearerAssertion",
    "OAuth2TechnicalUserPropagation",
    "OAuth2TokenExchange",
    "OAuth2UserTokenExchange",
    "PrincipalPropagation",
    "SAMLAssertion",
    "SAPAssertionSSO",
];

/// Form fields that the grant itself defines (RFC 6749, sections 4.3.2 and 4.4.2).
const GRANT_FIELDS: &[&str] = &["client_id", "client_secret", "grant_type", "password", "username"];

pub(super) fn authentication(
    reader: &mut Reader<'_>,
    url: Option<&TargetUrl>,
    trust: &Trust,
) -> Option<Authenticated> {
    check_key_store_source(reader);
    let value = reader.optional("Authentication").unwrap_or("NoAuthentication");
    let is = |name: &str| value.eq_ignore_ascii_case(name);
    if is("ClientCertificateAuthentication") {
        return client_certificate(reader, url);
    }
    check_unused_key_store(reader, url);
    let authentication = if is("NoAuthentication") {
        Some(Authentication::NoAuthentication)
    } else if is("BasicAuthentication") {
        basic(reader)
    } else if is("OAuth2ClientCredentials") {
        oauth2_client_credentials(reader, trust)
    } else if is("OAuth2Password") {
        oauth2_password(reader, trust)
    } else {
        refuse(reader, value);
        None
    };
    authentication.map(|authentication| (authentication, None))
}

fn refuse(reader: &mut Reader<'_>, authentication: &str) {
    let exist = "NoAuthentication, BasicAuthentication, ClientCertificateAuthentication, OAuth2ClientCredentials or OAuth2Password";
    let instead = "use NoAuthentication, BasicAuthentication, ClientCertificateAuthentication, OAuth2ClientCredentials or OAuth2Password";
    reader.refuse_value("Authentication", authentication, LATER, instead, exist);
}

fn check_key_store_source(reader: &mut Reader<'_>) {
    let Some(source) = reader.optional("KeyStore.Source") else {
        return;
    };
    if !source.eq_ignore_ascii_case("DestinationService") {
        let instead = "name a key store in KeyStoreLocation";
        reader.refuse_value(
            "KeyStore.Source",
            source,
            &["ClientProvided"],
            instead,
            "DestinationService",
        );
    }
}

/// A key store is refused with http:// whatever the authentication: somebody expects TLS there.
fn check_unused_key_store(reader: &mut Reader<'_>, url: Option<&TargetUrl>) {
    if reader.optional("KeyStoreLocation").is_none() {
        return;
    }
    if is_plain(url) {
        refuse_plain(reader, "KeyStoreLocation", "URL");
    } else {
        reader.warn(
            "KeyStoreLocation",
            "is ignored: only Authentication ClientCertificateAuthentication uses it",
        );
    }
}

fn client_certificate(reader: &mut Reader<'_>, url: Option<&TargetUrl>) -> Option<Authenticated> {
    if is_plain(url) {
        refuse_plain(reader, "Authentication", "URL");
    }
    let remedy = match reader.source {
        Source::Files => {
            "name a file with the client certificate and its key (.p12, .pfx or .pem) in the folder of the destination"
        }
        Source::Secrets => "name a key of the Secret that holds the client certificate and its key",
    };
    reader.required("KeyStoreLocation", remedy)?;
    let identity = reader.client_identity("KeyStoreLocation", "KeyStorePassword");
    Some((Authentication::ClientCertificate, identity))
}

fn is_plain(url: Option<&TargetUrl>) -> bool {
    url.is_some_and(|url| url.scheme == Scheme::Http)
}

fn refuse_plain(reader: &mut Reader<'_>, property: &str, url_property: &'static str) {
    reader.refuse(property, Problem::NeedsHttps { url_property });
}

fn basic(reader: &mut Reader<'_>) -> Option<Authentication> {
    if !reader.lenient_boolean("Preemptive", true) {
        reader.warn(
            "Preemptive",
            "is false, which is treated like true: credentials are sent with the first request",
        );
    }
    let user = basic_user(reader, "User", "BasicAuthentication needs it");
    let password = reader.required_secret("Password", "BasicAuthentication needs it");
    let (user, password) = (user?, password?);
    Some(Authentication::Basic { user, password })
}

fn basic_user(reader: &mut Reader<'_>, property: &str, remedy: &'static str) -> Option<String> {
    let user = reader.identity(property, remedy)?;
    if user.contains(':') {
        reader.refuse(property, Problem::ColonInUser);
        return None;
    }
    Some(user)
}

fn oauth2_client_credentials(reader: &mut Reader<'_>, trust: &Trust) -> Option<Authentication> {
    let client = client(reader, trust)?;
    let mtls = client
        .tls
        .as_ref()
        .is_some_and(|tls| tls.client_identity.is_some());
    if client.client_secret.is_none() && client.token_service_user.is_none() && !mtls {
        reader.warn(
            "clientSecret",
            "is missing, and neither tokenServiceUser nor tokenService.KeyStoreLocation is set; most token services refuse such clients",
        );
    }
    Some(Authentication::OAuth2ClientCredentials(Arc::new(client)))
}

fn oauth2_password(reader: &mut Reader<'_>, trust: &Trust) -> Option<Authentication> {
    let user = reader.identity("User", "OAuth2Password needs it");
    let password = reader.required_secret("Password", "OAuth2Password needs it");
    let client = client(reader, trust);
    Some(Authentication::OAuth2Password {
        user: user?,
        password: password?,
        client: Arc::new(client?),
    })
}

fn client(reader: &mut Reader<'_>, trust: &Trust) -> Option<OAuth2Client> {
    check_token_service_kind(reader);
    let token_service_url = token_service_url(reader);
    let client_id = reader.identity("clientId", "set it to the OAuth2 client's id");
    let client_secret = reader.secret("clientSecret").filter(|s| !s.is_empty());
    let token_service_user = token_service_user(reader);
    let credentials_in_body = reader.boolean("tokenService.addClientCredentialsInBody", true);
    let tls = token_service_tls(reader, token_service_url.as_ref(), trust);
    let body = body(reader);
    let headers = headers::headers(reader, "tokenServiceURL.headers.");
    let queries = headers::queries(reader, "tokenServiceURL.queries.");
    Some(OAuth2Client {
        client_secret,
        credentials_in_body,
        scope: reader.optional("scope").map(str::to_owned),
        body,
        headers,
        queries,
        connect_timeout: timeout(reader, "tokenServiceURL.ConnectionTimeoutInSeconds", 60),
        read_timeout: timeout(reader, "tokenServiceURL.SocketReadTimeoutInSeconds", 600),
        token_service_url: token_service_url?,
        client_id: client_id?,
        token_service_user,
        tls,
    })
}

fn timeout(reader: &mut Reader<'_>, property: &str, max: i64) -> std::time::Duration {
    const DEFAULT: i64 = 10;
    match reader.lenient_number(property, 0, max, DEFAULT) {
        0 => parse::seconds(DEFAULT),
        number => parse::seconds(number),
    }
}

fn check_token_service_kind(reader: &mut Reader<'_>) {
    parse::internet_only(reader, "tokenServiceURL.ProxyType");
    for property in ["clientAssertion.type", "clientAssertion.destinationName"] {
        if reader.optional(property).is_some() {
            let problem = Problem::PropertyNotSupportedYet(
                "use clientSecret or tokenService.KeyStoreLocation to identify the client",
            );
            reader.refuse(property, problem);
        }
    }
    let Some(kind) = reader.optional("tokenServiceURLType") else {
        return;
    };
    if !kind.eq_ignore_ascii_case("Dedicated") {
        let instead = "write the whole URL of one tenant in tokenServiceURL and set Dedicated";
        reader.refuse_value("tokenServiceURLType", kind, &["Common"], instead, "Dedicated");
    }
}

fn token_service_url(reader: &mut Reader<'_>) -> Option<TargetUrl> {
    let property = "tokenServiceURL";
    if reader
        .optional(property)
        .is_some_and(|value| value.contains("{tenant}"))
    {
        reader.refuse(property, Problem::TenantPlaceholder(reader.source));
        return None;
    }
    let url = reader.http_url(
        property,
        "set it to where tokens are fetched, like https://host/oauth/token",
    )?;
    let value = reader.optional(property)?;
    if !url::has_scheme(value) {
        reader.refuse(property, Problem::SchemeMissing);
        return None;
    }
    if url.scheme == Scheme::Http && !is_loopback(&url.host) {
        reader.warn(
            property,
            "is http://, so the client's credentials and tokens travel without encryption",
        );
    }
    Some(url)
}

fn is_loopback(host: &str) -> bool {
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn token_service_user(reader: &mut Reader<'_>) -> Option<(String, Secret)> {
    if reader.optional("tokenServiceUser").is_none() {
        if reader.optional("tokenServicePassword").is_some() {
            reader.warn(
                "tokenServicePassword",
                "is ignored, because tokenServiceUser is missing",
            );
        }
        return None;
    }
    let user = basic_user(reader, "tokenServiceUser", "set it or remove it");
    let password = reader.required_secret("tokenServicePassword", "tokenServiceUser needs it");
    Some((user?, password?))
}

fn token_service_tls(
    reader: &mut Reader<'_>,
    url: Option<&TargetUrl>,
    trust: &Trust,
) -> Option<Arc<TlsPolicy>> {
    let property = "tokenService.KeyStoreLocation";
    if is_plain(url) {
        if reader.optional(property).is_some() {
            refuse_plain(reader, property, "tokenServiceURL");
        }
        return None;
    }
    let identity = reader.client_identity(property, "tokenService.KeyStorePassword");
    Some(Arc::new(trust.policy(identity)))
}

fn body(reader: &mut Reader<'_>) -> Vec<(String, Secret)> {
    let prefix = "tokenService.body.";
    let scope_is_set = reader.optional("scope").is_some();
    let mut fields = Vec::new();
    for (key, value) in reader.properties.with_prefix(prefix) {
        let property = format!("{prefix}{key}");
        if key.is_empty() {
            reader.warn(property, "is ignored: the name of the field is missing");
        } else if GRANT_FIELDS.contains(&key) {
            reader.warn(property, "is ignored: the proxy sets this field itself");
        } else if key == "scope" && scope_is_set {
            reader.warn(property, "is ignored, because scope is set");
        } else {
            fields.push((key.to_owned(), value.clone()));
        }
    }
    fields
}
