//! Step 4 of the data path: from an authentication type to what is put on the request.

pub mod basic;
pub mod oauth2;
pub mod token_cache;

use std::sync::Arc;

use base64::Engine;
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};

use crate::resolve::destination::{Authentication, DestinationName, HttpDestination};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("token service unreachable")]
    TokenServiceUnreachable { detail: String },
    #[error("token service answered {status}")]
    TokenServiceStatus { status: u16, detail: String, retry_after: Option<u64> },
    #[error("invalid token response")]
    InvalidTokenResponse { detail: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppAuthorization {
    Pass,
    Remove,
}

#[derive(Clone)]
pub struct Injection {
    pub header: Option<(HeaderName, HeaderValue)>,
    pub app_authorization: AppAuthorization,
}

pub struct TokenService;

#[derive(Clone)]
pub struct Authenticator(Arc<Injection>);

impl Authenticator {
    pub fn new(
        _name: &DestinationName,
        destination: &HttpDestination,
        _tokens: &Arc<TokenService>,
    ) -> Result<Self, Error> {
        Ok(Self(Arc::new(match &destination.authentication {
            Authentication::Basic { user, password } => {
                let text = format!("{user}:{}", password.expose());
                let text = format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(text));
                let mut value = HeaderValue::try_from(text).expect("base64 is ASCII");
                value.set_sensitive(true);
                Injection {
                    header: Some((AUTHORIZATION, value)),
                    app_authorization: AppAuthorization::Remove,
                }
            }
            _ => Injection { header: None, app_authorization: AppAuthorization::Pass },
        })))
    }
    pub fn ready(&self) -> Option<Injection> {
        Some((*self.0).clone())
    }
    pub async fn injection(&self) -> Result<Injection, Error> {
        Ok((*self.0).clone())
    }
    pub fn rejected(&self, _used: &Injection) {}
}
