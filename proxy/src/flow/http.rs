//! The HTTP plane: every request of an application, to its target and back.

mod answer;
mod app;
mod body;
mod exchange;
mod headers;
mod lazy;
mod metrics;
mod overload;
mod request_id;
mod retry;
mod selection;
mod server;
mod streams;
mod target;
mod upgrade;

use std::sync::Arc;
use std::time::Duration;

use http::header::EXPECT;
use http::request::Parts;
use http::uri::{Authority, InvalidUri, PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;

pub use self::answer::Refusal;
pub use self::body::{RequestBody, ResponseBody};
pub use self::lazy::Lazy;
pub use self::metrics::HttpMetrics;
pub use self::overload::overloaded;
pub use self::retry::Retry;
pub use self::selection::{NotSelected, Select, Selection};
pub use self::server::{Resolve, Resolved, serve_connection};

use self::answer::{Caller, Named};
use self::app::{AppConnection, Client};
use self::headers::{Kind, Rules};
use self::target::Target;
use crate::connect::pool::{Connector, Origin, Pool, PoolKey};
use crate::connect::{self, Dialer};
use crate::credentials::{self, Authenticator, Injection, TokenService};
use crate::error::{Error, Exchange};
use crate::flow::behalf::Behalf;
use crate::resolve::destination::{self, Destination, HttpDestination};
use crate::resolve::keystore::CertificateStore;

/// What HTTP destinations are served with.
#[derive(Clone)]
pub struct HttpParts {
    pub dialer: Arc<dyn Dialer>,
    pub tokens: Arc<TokenService>,
    pub pool: Arc<Pool<RequestBody>>,
    pub settings: Arc<HttpSettings>,
    pub metrics: HttpMetrics,
    /// `None` where there are no Destination CRs.
    pub behalf: Option<Arc<Behalf>>,
}

/// What operators decide for all HTTP destinations.
#[derive(Debug, Clone, Default)]
pub struct HttpSettings {
    /// Repeats of requests that may have run already; off unless configured.
    pub retry: Option<Retry>,
    /// One line per request under the log target [`ACCESS`](crate::telemetry::logging::ACCESS).
    pub access_log: bool,
    /// Trusted for `https://` targets beside the default roots and those of the destination.
    pub additional_cas: CertificateStore,
}

/// Why a destination cannot be served at all.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error("TLS settings: {0}")]
    Tls(#[from] connect::tls::Error),
    #[error("authentication: {0}")]
    Credentials(#[from] credentials::Error),
    #[error("host: {0}")]
    Host(#[source] InvalidUri),
}

/// One version of one HTTP destination, ready to serve: whatever depends on the
/// configuration alone has been computed.
pub struct HttpService {
    named: Named,
    authenticator: Authenticator,
    target: Target,
    rules: Rules,
    scheme: Scheme,
    authority: Authority,
    read_timeout: Duration,
    origin: Arc<Origin<RequestBody>>,
    settings: Arc<HttpSettings>,
}

impl HttpService {
    pub fn new(
        destination: &Destination,
        http: &Arc<HttpDestination>,
        parts: HttpParts,
    ) -> Result<Self, Unusable> {
        // No property opts in to HTTP/2 without TLS yet.
        let http2_prior_knowledge = false;
        let key = PoolKey::new(destination.version, http, http2_prior_knowledge);
        let connector = Connector::new(
            http,
            Arc::clone(&parts.dialer),
            &parts.settings.additional_cas,
            http2_prior_knowledge,
        )?;
        let rules = Rules::new(http);
        Ok(Self {
            named: Named::new(&destination.name, &parts),
            authenticator: Authenticator::new(&destination.name, http, &parts.tokens)?,
            target: Target::new(http),
            scheme: match http.url.scheme {
                destination::Scheme::Http => Scheme::HTTP,
                destination::Scheme::Https => Scheme::HTTPS,
            },
            authority: Authority::try_from(rules.host().as_bytes()).map_err(Unusable::Host)?,
            rules,
            read_timeout: http.read_timeout,
            origin: parts.pool.origin(key, connector),
            settings: parts.settings,
        })
    }

    /// Its name.
    pub(in crate::flow) fn destination(&self) -> &str {
        self.named.destination()
    }

    /// Requests so far, of all services of the same name.
    fn received(&self) -> u64 {
        self.named.metrics.total()
    }

    async fn forward(
        &self,
        request: Request<Incoming>,
        request_id: &HeaderValue,
        caller: &Caller,
        app: &Arc<AppConnection>,
    ) -> Result<Response<ResponseBody>, Error> {
        if caller.upgrades {
            return Box::pin(self.upgrade(request, request_id, app)).await;
        }
        let (parts, incoming) = request.into_parts();
        let body = RequestBody::new(incoming, app, parts.headers.contains_key(EXPECT));
        let (request, injection) = match self.prepare(parts, body, request_id, None).await {
            Ok(prepared) => prepared,
            Err((error, body)) => {
                body.drain_if_cheap().await;
                return Err(error);
            }
        };
        let client = Client {
            app,
            resets: caller.resets,
        };
        let response = match &self.settings.retry {
            Some(retry) => Box::pin(self.exchange_with_retries(request, &injection, retry, client)).await,
            None => self.exchange(request, client).await,
        }?;
        if response.status() == StatusCode::UNAUTHORIZED {
            self.authenticator.rejected(&injection);
        }
        Ok(response)
    }

    /// Where the request goes to, unless it is one that does not go.
    fn check(&self, parts: &Parts) -> Result<PathAndQuery, Error> {
        if parts.method == Method::CONNECT {
            return Err(Exchange::MethodNotAllowed.into());
        }
        headers::refuse_repeated(&parts.headers)?;
        self.rules.check(&parts.headers)?;
        Ok(self.target.join(&parts.uri)?)
    }

    /// Credentials that have to be asked for first.
    async fn injection(&self) -> Result<Injection, credentials::Error> {
        let asked = self.authenticator.injection();
        self.named.measured(|steps| &steps.credentials, asked).await
    }

    /// The request as the target gets it: method, target, fields, credentials.
    async fn prepare(
        &self,
        mut parts: Parts,
        body: RequestBody,
        request_id: &HeaderValue,
        upgrade: Option<&HeaderValue>,
    ) -> Result<(Request<RequestBody>, Injection), (Error, RequestBody)> {
        let path = match self.check(&parts) {
            Ok(path) => path,
            Err(error) => return Err((error, body)),
        };
        let injection = match self.authenticator.ready() {
            Some(injection) => injection,
            None => match Box::pin(self.injection()).await {
                Ok(injection) => injection,
                Err(error) => return Err((error.into(), body)),
            },
        };
        parts.uri = Uri::from(path);
        let kind = Kind {
            unknown_length: body.has_unknown_length(),
            upgrade,
        };
        parts.headers = self.rules.request(parts.headers, &injection, request_id, kind);
        Ok((Request::from_parts(parts, body), injection))
    }
}

#[cfg(test)]
mod tests;
