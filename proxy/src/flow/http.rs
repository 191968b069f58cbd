//! The HTTP plane: every request of an application, to its target and back.

mod app;
mod body;
mod exchange;
mod headers;
mod metrics;
mod request_id;
mod retry;
mod server;
mod target;
mod upgrade;

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_TYPE, EXPECT};
use http::request::Parts;
use http::uri::{Authority, InvalidUri, Scheme};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body, Incoming};
use tokio::time::Instant;

pub use self::body::{RequestBody, ResponseBody};
pub use self::metrics::HttpMetrics;
pub use self::retry::Retry;
pub use self::server::serve_connection;

use self::app::AppConnection;
use self::headers::{Kind, Rules};
use self::metrics::DestinationMetrics;
use self::target::Target;
use crate::connect::pool::{Connector, Origin, Pool, PoolKey};
use crate::connect::{self, Dialer};
use crate::credentials::{self, Authenticator, Injection, TokenService};
use crate::error::render::{self, Asked};
use crate::error::{Error, Exchange, Names, catalogue};
use crate::framing::Turn;
use crate::resolve::destination::{self, Destination, HttpDestination};
use crate::resolve::keystore::CertificateStore;
use crate::telemetry::logging;

/// What all HTTP destinations of a process share.
#[derive(Clone)]
pub struct HttpParts {
    pub dialer: Arc<dyn Dialer>,
    pub tokens: Arc<TokenService>,
    pub pool: Arc<Pool<RequestBody>>,
    pub settings: Arc<HttpSettings>,
    pub metrics: HttpMetrics,
}

/// What operators decide for all HTTP destinations.
#[derive(Debug, Clone, Default)]
pub struct HttpSettings {
    /// Repeats of requests that may have run already; off unless configured.
    pub retry: Option<Retry>,
    /// One line per request under the log target [`logging::ACCESS`].
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
    name: String,
    authenticator: Authenticator,
    target: Target,
    rules: Rules,
    scheme: Scheme,
    authority: Authority,
    read_timeout: Duration,
    origin: Arc<Origin<RequestBody>>,
    settings: Arc<HttpSettings>,
    metrics: DestinationMetrics,
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
            parts.dialer,
            &parts.settings.additional_cas,
            http2_prior_knowledge,
        )?;
        let rules = Rules::new(http);
        Ok(Self {
            name: destination.name.to_string(),
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
            metrics: parts.metrics.of(&destination.name),
        })
    }

    /// Answers one request. Every failure is an answer too.
    ///
    /// `turn` is the request's on an HTTP/1 connection; it lasts as long as the answer.
    async fn handle(
        &self,
        request: Request<Incoming>,
        turn: Option<Turn>,
        app: Arc<AppConnection>,
    ) -> Response<ResponseBody> {
        self.metrics.received();
        let started = Instant::now();
        let request_id = request_id::of(request.headers());
        let caller = Caller::of(&request);
        let logged = self.settings.access_log;
        let line = logged.then(|| (request.method().clone(), request.uri().path().to_owned()));
        let forwarded = match turn.as_ref().and_then(Turn::violation) {
            Some(violation) => Err(violation.into()),
            None => self.forward(request, &request_id, &caller, &app).await,
        };
        let response = match forwarded {
            Ok(response) => self.answered(response, &request_id),
            Err(error) => self.failed_answer(&error, &request_id, &caller),
        };
        let took = started.elapsed();
        self.metrics.finished(took);
        if let Some((method, path)) = line {
            self.log_access(&method, &path, response.status(), &request_id, took);
        }
        match turn {
            Some(turn) => keep_turn(response, turn),
            None => response,
        }
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
        let response = match &self.settings.retry {
            Some(retry) => {
                Box::pin(self.exchange_with_retries(request, &injection, retry, app, caller.resets)).await
            }
            None => self.exchange(request, app, caller.resets).await,
        }?;
        if response.status() == StatusCode::UNAUTHORIZED {
            self.authenticator.rejected(&injection);
        }
        Ok(response)
    }

    /// The request as the target gets it: method, target, fields, credentials.
    async fn prepare(
        &self,
        mut parts: Parts,
        body: RequestBody,
        request_id: &HeaderValue,
        upgrade: Option<&HeaderValue>,
    ) -> Result<(Request<RequestBody>, Injection), (Error, RequestBody)> {
        let path = match check(&parts).and_then(|()| self.target.join(&parts.uri)) {
            Ok(path) => path,
            Err(error) => return Err((error.into(), body)),
        };
        let injection = match self.authenticator.ready() {
            Some(injection) => injection,
            None => match Box::pin(self.authenticator.injection()).await {
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

    fn answered(&self, response: Response<ResponseBody>, request_id: &HeaderValue) -> Response<ResponseBody> {
        self.metrics.answered();
        let (mut parts, body) = response.into_parts();
        let upgraded = upgrade::agreed(&parts);
        let keeps_trailer = body.size_hint().exact().is_none();
        parts.headers = headers::response(parts.headers, request_id, keeps_trailer);
        parts.version = Version::HTTP_11;
        if let Some(protocol) = upgraded {
            upgrade::say_agreed(&mut parts.headers, protocol);
        }
        Response::from_parts(parts, body)
    }

    fn failed_answer(
        &self,
        error: &Error,
        request_id: &HeaderValue,
        caller: &Caller,
    ) -> Response<ResponseBody> {
        self.log_failure(error, request_id);
        let asked = Asked {
            names: Names::of_destination(&self.name),
            request_id,
            head: caller.head,
            grpc: caller.grpc,
        };
        let mut response = render::response(error, asked).map(ResponseBody::full);
        if caller.http2 {
            response.headers_mut().remove(CONNECTION);
        }
        response
    }

    fn log_failure(&self, error: &Error, request_id: &HeaderValue) {
        let entry = catalogue::entry(error);
        self.metrics.failed(entry.id);
        let request_id = request_id.to_str().unwrap_or_default();
        tracing::error!(
            request_id,
            destination = self.name,
            step = entry.step,
            code = entry.id,
            status = entry.status.as_u16(),
            error = causes(error),
            remedy = entry.remedy,
            "request failed"
        );
    }

    fn log_access(
        &self,
        method: &Method,
        path: &str,
        status: StatusCode,
        request_id: &HeaderValue,
        took: Duration,
    ) {
        tracing::info!(
            target: logging::ACCESS,
            request_id = request_id.to_str().unwrap_or_default(),
            destination = self.name,
            %method,
            path,
            status = status.as_u16(),
            milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "request"
        );
    }
}

/// What of the request shapes the answer, kept while the request itself is on its way.
struct Caller {
    head: bool,
    grpc: bool,
    http2: bool,
    upgrades: bool,
    /// HTTP/1.0 has no other sign for a body that broke off.
    resets: bool,
}

impl Caller {
    fn of(request: &Request<Incoming>) -> Self {
        let http2 = request.version() == Version::HTTP_2;
        Self {
            head: request.method() == Method::HEAD,
            grpc: http2 && is_grpc(request),
            http2,
            upgrades: request.version() == Version::HTTP_11
                && headers::wanted_upgrade(request.headers()).is_some(),
            resets: request.version() == Version::HTTP_10,
        }
    }
}

fn is_grpc(request: &Request<Incoming>) -> bool {
    let content_type = request.headers().get(CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// The turn ends with the answer's body. After a switch of protocols the guard looks away.
fn keep_turn(response: Response<ResponseBody>, turn: Turn) -> Response<ResponseBody> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        turn.upgraded();
    }
    response.map(|body| body.keeping(turn))
}

fn check(parts: &Parts) -> Result<(), Exchange> {
    if parts.method == Method::CONNECT {
        return Err(Exchange::MethodNotAllowed);
    }
    headers::refuse_repeated(&parts.headers)
}

/// The error and what caused it, in one line.
fn causes(error: &Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}

#[cfg(test)]
mod tests;
