//! Step 4 of the data path: from an authentication type to what is put on the request.

mod basic;
mod metrics;
mod oauth2;
#[cfg(test)]
mod test_service;
mod token_cache;
mod token_service;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode, header};

use crate::connect;
use crate::resolve::destination::{Authentication, DestinationName, HttpDestination};

pub use token_service::TokenService;

/// Puts the credentials of one destination version on requests. Cheap to clone.
#[derive(Clone)]
pub struct Authenticator(Arc<Kind>);

enum Kind {
    /// The same for every request.
    Fixed(Injection),
    /// A token that is fetched, kept and renewed.
    Token(Arc<token_cache::Entry>),
}

impl Authenticator {
    /// Fails if the TLS settings of the token service cannot be used.
    pub fn new(
        name: &DestinationName,
        destination: &HttpDestination,
        tokens: &Arc<TokenService>,
    ) -> Result<Self, Error> {
        let kind = match &destination.authentication {
            Authentication::NoAuthentication | Authentication::ClientCertificate => {
                Kind::Fixed(Injection::nothing())
            }
            Authentication::Basic { user, password } => Kind::Fixed(Injection::authorization(
                basic::header_value(user, password.expose()),
            )),
            Authentication::OAuth2ClientCredentials(client) => {
                Kind::Token(tokens.entry(name, client, oauth2::Grant::ClientCredentials)?)
            }
            Authentication::OAuth2Password {
                client,
                user,
                password,
            } => {
                let grant = oauth2::Grant::Password {
                    user: user.clone(),
                    password: password.clone(),
                };
                Kind::Token(tokens.entry(name, client, grant)?)
            }
        };
        Ok(Self(Arc::new(kind)))
    }

    /// What to put on a request, if that is known without waiting. A token that
    /// nears its end is renewed in the background from here.
    pub fn ready(&self) -> Option<Injection> {
        match &*self.0 {
            Kind::Fixed(injection) => Some(injection.clone()),
            Kind::Token(entry) => entry.ready().map(|token| Injection::token(&token)),
        }
    }

    /// What to put on a request; waits for a token if none is at hand. The wait is
    /// bounded by the timeouts of the token service.
    pub async fn injection(&self) -> Result<Injection, Error> {
        match &*self.0 {
            Kind::Fixed(injection) => Ok(injection.clone()),
            Kind::Token(entry) => entry.token().await.map(|token| Injection::token(&token)),
        }
    }

    /// The target answered 401 to `used`: its token is dropped if it still is the
    /// current one, at most once per 10 s.
    pub fn rejected(&self, used: &Injection) {
        if let (Kind::Token(entry), Some(generation)) = (&*self.0, used.generation) {
            entry.rejected(generation);
        }
    }
}

/// What a request gets, and what happens to the application's own `Authorization`.
#[derive(Debug, Clone)]
pub struct Injection {
    /// Replaces all headers of that name; the value is marked sensitive.
    pub header: Option<(HeaderName, HeaderValue)>,
    pub app_authorization: AppAuthorization,
    /// Which token this is; compared by [`Authenticator::rejected`].
    generation: Option<u64>,
}

impl Injection {
    fn nothing() -> Self {
        Self {
            header: None,
            app_authorization: AppAuthorization::Pass,
            generation: None,
        }
    }

    fn authorization(value: HeaderValue) -> Self {
        Self {
            header: Some((header::AUTHORIZATION, value)),
            app_authorization: AppAuthorization::Remove,
            generation: None,
        }
    }

    fn token(token: &token_cache::Token) -> Self {
        Self {
            generation: Some(token.generation),
            ..Self::authorization(token.header.clone())
        }
    }
}

/// What happens to the application's own `Authorization` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppAuthorization {
    /// It goes on to the target, if it [has a scheme](Self::passes).
    Pass,
    Remove,
}

impl AppAuthorization {
    /// Whether `value` may reach the target. A value without a scheme is a user
    /// token that some client libraries send for the proxy itself; it stays here.
    pub fn passes(self, value: &HeaderValue) -> bool {
        self == Self::Pass && has_scheme(value.as_bytes())
    }
}

/// `<scheme> <credentials>`, RFC 9110 section 11.4.
fn has_scheme(value: &[u8]) -> bool {
    let Some(blank) = memchr::memchr(b' ', value) else {
        return false;
    };
    let (scheme, credentials) = value.split_at(blank);
    !scheme.is_empty() && credentials.iter().any(|&byte| byte != b' ')
}

/// Why there is no credential. One failure is shared by all who waited for it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The TLS settings towards the token service cannot be used.
    #[error("the TLS settings of the token service cannot be used: {0}")]
    Tls(#[source] Arc<connect::tls::Error>),
    #[error("the URL of the token service cannot be used: {0}")]
    TokenServiceUrl(#[source] Arc<http::uri::InvalidUri>),
    #[error("the token service cannot be reached: {0}")]
    TokenServiceUnreachable(#[source] Arc<connect::Error>),
    #[error("the token service did not answer within {} s", .0.as_secs())]
    TokenServiceTimedOut(Duration),
    /// All turns were taken for as long as the call may last.
    #[error("{0} other calls to the token service were waiting for its answer")]
    TokenServiceBusy(usize),
    #[error("the token service closed the connection or sent an invalid answer")]
    TokenServiceProtocol,
    /// `code` is the `error` of RFC 6749, section 5.2, and `detail` is `error: error_description` of the
    /// answer, printable and short; for logs only.
    #[error("the token service answered {}{}{}", .status.as_u16(), .detail.as_ref().map_or("", |_| ", "), .detail.as_deref().unwrap_or(""))]
    TokenServiceStatus {
        status: StatusCode,
        code: Option<String>,
        detail: Option<String>,
        retry_after: Option<Duration>,
    },
    #[error("the token service sent an unusable token: {0}")]
    InvalidTokenResponse(InvalidToken),
    /// The proxy is shutting down.
    #[error("the token call was given up")]
    Cancelled,
}

impl Error {
    /// The status code of the token service, if it sent one.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::TokenServiceStatus { status, .. } => Some(*status),
            Self::InvalidTokenResponse(_) => Some(StatusCode::OK),
            Self::Tls(_)
            | Self::TokenServiceUrl(_)
            | Self::TokenServiceUnreachable(_)
            | Self::TokenServiceTimedOut(_)
            | Self::TokenServiceBusy(_)
            | Self::TokenServiceProtocol
            | Self::Cancelled => None,
        }
    }

    /// How long the token service wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TokenServiceStatus { retry_after, .. } => *retry_after,
            Self::Tls(_)
            | Self::TokenServiceUrl(_)
            | Self::TokenServiceUnreachable(_)
            | Self::TokenServiceTimedOut(_)
            | Self::TokenServiceBusy(_)
            | Self::TokenServiceProtocol
            | Self::InvalidTokenResponse(_)
            | Self::Cancelled => None,
        }
    }
}

/// What is wrong with a successful answer of the token service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    #[error("the body is empty")]
    Empty,
    #[error("the body is larger than 1 MiB")]
    TooLarge,
    #[error("the body is not a JSON object with the fields of RFC 6749")]
    NotJson,
    #[error("it has no access_token")]
    NoToken,
    #[error("access_token or token_type contain characters that no header can carry")]
    Characters,
    #[error("the token had expired when it came")]
    Expired,
}

#[cfg(test)]
mod tests;
