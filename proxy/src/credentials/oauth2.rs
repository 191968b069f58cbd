//! OAuth 2.0 grants that the proxy runs itself (RFC 6749).

mod form;
mod response;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{InvalidUri, Uri};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::time::{Instant, sleep};
use tracing::{debug, info};
use zeroize::Zeroizing;

use super::metrics::CallCounts;
use super::token_cache::Fetched;
use super::token_service::{Call, Caller, ServiceTls};
use super::{Error, InvalidToken, basic};
use crate::resolve::destination::{OAuth2Client, TargetUrl};
use crate::secret::Secret;

/// Pauses before the repeats of a call that failed for a passing reason.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(200)];

/// What is granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Grant {
    /// RFC 6749, section 4.4
    ClientCredentials,
    /// RFC 6749, section 4.3
    Password { user: String, password: Secret },
}

/// How the client proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClientAuthentication {
    /// `client_id` and `client_secret` as form fields.
    Body,
    /// HTTP Basic, RFC 6749, section 2.3.1.
    Header,
}

/// Fetches tokens of one grant.
pub(super) struct Fetcher {
    caller: Arc<Caller>,
    client: Arc<OAuth2Client>,
    grant: Grant,
    uri: Uri,
    tls: Option<ServiceTls>,
    /// The service did not know the client by its header, but may by the body.
    fell_back: AtomicBool,
    calls: CallCounts,
}

impl Fetcher {
    pub(super) fn new(
        caller: Arc<Caller>,
        client: Arc<OAuth2Client>,
        grant: Grant,
        tls: Option<ServiceTls>,
        calls: CallCounts,
    ) -> Result<Self, InvalidUri> {
        let uri = uri(&client.token_service_url, client.queries.expose())?;
        Ok(Self {
            caller,
            client,
            grant,
            uri,
            tls,
            fell_back: AtomicBool::new(false),
            calls,
        })
    }

    /// Repeats calls that failed for a passing reason, as long as the connect and
    /// read timeouts together allow.
    pub(super) async fn fetch(&self) -> Result<Fetched, Error> {
        let budget = self.client.connect_timeout + self.client.read_timeout;
        let deadline = Instant::now() + budget;
        let mut pauses = PAUSES.into_iter();
        loop {
            let error = match self.authenticate(deadline).await {
                Ok(fetched) => return Ok(fetched),
                Err(error) => error,
            };
            let pause = pauses
                .next()
                .map(|pause| pause.max(error.retry_after().unwrap_or_default()));
            match pause {
                Some(pause) if is_passing(&error) && Instant::now() + pause < deadline => {
                    debug!(%error, "token call is repeated");
                    sleep(pause).await;
                }
                _ => return Err(error),
            }
        }
    }

    /// Some services decode the header differently or know only the body, so the
    /// body is tried after `invalid_client`, and remembered if it works.
    async fn authenticate(&self, deadline: Instant) -> Result<Fetched, Error> {
        let way = self.way();
        let error = match self.call(way, deadline).await {
            Err(error) if way == ClientAuthentication::Header && is_invalid_client(&error) => error,
            outcome => return outcome,
        };
        match self.call(ClientAuthentication::Body, deadline).await {
            Ok(fetched) => {
                info!("the token service takes the client's secret in the body only");
                self.fell_back.store(true, Ordering::Relaxed);
                Ok(fetched)
            }
            Err(also) if is_invalid_client(&also) => Err(error),
            // The client is known this way, and something else is wrong.
            Err(also) => Err(also),
        }
    }

    fn way(&self) -> ClientAuthentication {
        let in_header = !self.client.credentials_in_body
            && self.client.client_secret.is_some()
            && self.client.token_service_user.is_none()
            && !self.fell_back.load(Ordering::Relaxed);
        if in_header {
            ClientAuthentication::Header
        } else {
            ClientAuthentication::Body
        }
    }

    async fn call(&self, way: ClientAuthentication, deadline: Instant) -> Result<Fetched, Error> {
        let outcome = self.call_uncounted(way, deadline).await;
        self.calls.count(&outcome);
        outcome
    }

    async fn call_uncounted(&self, way: ClientAuthentication, deadline: Instant) -> Result<Fetched, Error> {
        let tls = self.tls.as_ref().map(ServiceTls::now);
        let body = form::encode(&self.client, &self.grant, way);
        let call = Call {
            url: &self.client.token_service_url,
            uri: self.uri.clone(),
            headers: self.headers(way),
            body: Bytes::from_owner(Zeroizing::new(body.into_bytes())),
            connect_timeout: self.client.connect_timeout,
            read_timeout: self.client.read_timeout,
            deadline,
            tls: tls.as_ref(),
        };
        let asked = Instant::now();
        let answer = self.caller.post(call).await?;
        let fetched = response::read(&answer, &self.secrets())?;
        // The life counts from when the answer was made, which is after the question.
        let life = fetched.life.saturating_sub(asked.elapsed());
        if life.is_zero() {
            return Err(Error::InvalidTokenResponse(InvalidToken::Expired));
        }
        Ok(Fetched { life, ..fetched })
    }

    fn headers(&self, way: ClientAuthentication) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded;charset=UTF-8"),
        );
        for (name, value) in &self.client.headers {
            if !is_framing(name) {
                headers.insert(name, value.clone());
            }
        }
        if let Some(value) = self.authorization(way) {
            headers.insert(header::AUTHORIZATION, value);
        }
        headers
    }

    fn authorization(&self, way: ClientAuthentication) -> Option<HeaderValue> {
        if let Some((user, password)) = &self.client.token_service_user {
            return Some(basic::header_value(user, password.expose()));
        }
        let secret = self.client.client_secret.as_ref()?;
        (way == ClientAuthentication::Header).then(|| {
            let id = form::encode_value(&self.client.client_id);
            basic::header_value(&id, &Zeroizing::new(form::encode_value(secret.expose())))
        })
    }

    /// What an error message of the service must not repeat.
    fn secrets(&self) -> Vec<&str> {
        let client = &*self.client;
        let mut secrets: Vec<&str> = client.body.iter().map(|(_, value)| value.expose()).collect();
        secrets.extend(client.client_secret.as_ref().map(Secret::expose));
        secrets.extend(
            client
                .token_service_user
                .as_ref()
                .map(|(_, password)| password.expose()),
        );
        if let Grant::Password { password, .. } = &self.grant {
            secrets.push(password.expose());
        }
        secrets
    }
}

/// RFC 6749, section 5.2: the service does not know the client, or not by this means.
fn is_invalid_client(error: &Error) -> bool {
    let Error::TokenServiceStatus { status, code, .. } = error else {
        return false;
    };
    matches!(*status, StatusCode::UNAUTHORIZED | StatusCode::BAD_REQUEST)
        && code.as_deref() == Some("invalid_client")
}

/// Path and query; the rest of the URL is said by `Host` and the connection.
fn uri(url: &TargetUrl, queries: &str) -> Result<Uri, InvalidUri> {
    let mut text = if url.path.is_empty() {
        "/".to_owned()
    } else {
        url.path.clone()
    };
    let queries = [url.query.as_deref().unwrap_or_default(), queries];
    for (index, query) in queries.into_iter().filter(|query| !query.is_empty()).enumerate() {
        text.push(if index == 0 { '?' } else { '&' });
        text.push_str(query);
    }
    text.parse()
}

/// Whether the same call may work a moment later.
fn is_passing(error: &Error) -> bool {
    match error {
        Error::TokenServiceUnreachable(cause) => !matches!(
            **cause,
            crate::connect::Error::Tls(_) | crate::connect::Error::AddressNotAllowed
        ),
        Error::TokenServiceStatus { status, .. } => {
            status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
        }
        Error::TokenServiceProtocol | Error::InvalidTokenResponse(_) => true,
        Error::Tls(_)
        | Error::TokenServiceUrl(_)
        | Error::TokenServiceTimedOut(_)
        | Error::TokenServiceBusy(_)
        | Error::Cancelled => false,
    }
}

/// Headers that only the HTTP library sets.
fn is_framing(name: &header::HeaderName) -> bool {
    [
        header::HOST,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
        header::TE,
    ]
    .contains(name)
}
