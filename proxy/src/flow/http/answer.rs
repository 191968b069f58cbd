//! The story of one request: counted, forwarded, answered, logged.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_TYPE, EXPECT};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::{Body, Incoming};
use tokio::time::Instant;

use super::app::AppConnection;
use super::body::{RequestBody, ResponseBody};
use super::metrics::DestinationMetrics;
use super::server::Resolved;
use super::{HttpParts, headers, request_id, upgrade};
use crate::error::render::{self, Asked};
use crate::error::{Error, Names, catalogue};
use crate::flow::behalf::Behalf;
use crate::flow::steps::{Step, Steps};
use crate::framing::Turn;
use crate::resolve::destination::DestinationName;
use crate::telemetry::logging;

/// Whose requests they are, in answers, logs and metrics.
pub(super) struct Named {
    destination: String,
    behalf: Option<Arc<Behalf>>,
    pub(super) metrics: DestinationMetrics,
    access_log: bool,
}

impl Named {
    pub(super) fn new(destination: &DestinationName, parts: &HttpParts) -> Self {
        Self {
            destination: destination.to_string(),
            behalf: parts.behalf.clone(),
            metrics: parts.metrics.of(destination),
            access_log: parts.settings.access_log,
        }
    }

    pub(super) fn destination(&self) -> &str {
        &self.destination
    }

    /// Takes a step, and notes how long it took.
    pub(super) async fn measured<T>(&self, step: fn(&Steps) -> &Step, taken: impl Future<Output = T>) -> T {
        let begin = Instant::now();
        let outcome = taken.await;
        if let Some(behalf) = &self.behalf {
            step(&behalf.steps).took(begin.elapsed());
        }
        outcome
    }

    /// Asked for, or at a level at which everything is told.
    fn logs_requests(&self) -> bool {
        self.access_log || tracing::enabled!(tracing::Level::DEBUG)
    }

    fn names(&self) -> Names<'_> {
        let Some(behalf) = &self.behalf else {
            return Names::of_destination(&self.destination);
        };
        Names {
            destination: &self.destination,
            cr: &behalf.cr,
            // Instances without tenants put their own name here.
            tenant: behalf.instance,
            instance: behalf.instance,
        }
    }
}

/// Why a request is given to no service.
pub struct Refusal {
    error: Error,
    named: Named,
}

impl Refusal {
    /// `destination` is the one that was asked for. Metrics count under `label`, which must not
    /// be something that a request made up.
    pub fn new(error: Error, destination: String, label: &DestinationName, parts: &HttpParts) -> Box<Self> {
        let named = Named {
            destination,
            ..Named::new(label, parts)
        };
        Box::new(Self { error, named })
    }
}

/// Answers one request. Every failure is an answer too.
///
/// `turn` is the request's on an HTTP/1 connection; it lasts as long as the answer.
pub(super) async fn answer(
    resolved: Resolved,
    request: Request<Incoming>,
    turn: Option<Turn>,
    app: Arc<AppConnection>,
) -> Response<ResponseBody> {
    let response = match resolved {
        Ok(service) => {
            let story = Story::begin(&service.named, &request);
            let forwarded = match violation(turn.as_ref()) {
                Some(error) => Err(error),
                None => {
                    service
                        .forward(request, &story.request_id, &story.caller, &app)
                        .await
                }
            };
            story.end(&service.named, forwarded)
        }
        Err(refusal) => {
            let Refusal { error, named } = *refusal;
            let story = Story::begin(&named, &request);
            let error = if let Some(violation) = violation(turn.as_ref()) {
                violation
            } else {
                body(request, &app).drain_if_cheap().await;
                error
            };
            story.end(&named, Err(error))
        }
    };
    match turn {
        Some(turn) => keep_turn(closing(response, &app), turn),
        None => response,
    }
}

/// Of a process that is about to end, the application's next request goes to another one.
fn closing(mut response: Response<ResponseBody>, app: &AppConnection) -> Response<ResponseBody> {
    if app.drain().is_leaving() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    response
}

/// What the framing's guard has to say against the request goes before everything else.
fn violation(turn: Option<&Turn>) -> Option<Error> {
    turn.and_then(Turn::violation).map(Error::from)
}

fn body(request: Request<Incoming>, app: &Arc<AppConnection>) -> RequestBody {
    let gated = request.headers().contains_key(EXPECT);
    RequestBody::new(request.into_body(), app, gated)
}

/// What is remembered of a request while it is on its way.
struct Story {
    started: Instant,
    request_id: HeaderValue,
    caller: Caller,
    line: Option<Line>,
}

/// For the access log.
struct Line {
    method: Method,
    path: String,
}

impl Story {
    fn begin(named: &Named, request: &Request<Incoming>) -> Self {
        named.metrics.received();
        if let Some(behalf) = &named.behalf {
            behalf.requested();
        }
        Self {
            started: Instant::now(),
            line: named.logs_requests().then(|| Line::of(request)),
            request_id: request_id::of(request.headers()),
            caller: Caller::of(request),
        }
    }

    fn end(self, named: &Named, forwarded: Result<Response<ResponseBody>, Error>) -> Response<ResponseBody> {
        let response = match forwarded {
            Ok(response) => {
                named.metrics.answered();
                answered(response, &self.request_id)
            }
            Err(error) => self.failed(named, &error),
        };
        let took = self.started.elapsed();
        named.metrics.finished(took);
        if let Some(line) = &self.line {
            line.log(named, response.status(), &self.request_id, took);
        }
        response
    }

    fn failed(&self, named: &Named, error: &Error) -> Response<ResponseBody> {
        self.log_failure(named, error);
        let asked = Asked {
            names: named.names(),
            request_id: &self.request_id,
            head: self.caller.head,
            grpc: self.caller.grpc,
        };
        let mut response = render::response(error, asked).map(ResponseBody::full);
        if self.caller.http2 {
            response.headers_mut().remove(CONNECTION);
        }
        response
    }

    fn log_failure(&self, named: &Named, error: &Error) {
        let entry = catalogue::entry(error);
        named.metrics.failed(entry.id);
        if let Some(behalf) = &named.behalf {
            behalf.failed();
        }
        tracing::error!(
            request_id = self.request_id.to_str().unwrap_or_default(),
            destination = named.destination,
            cr = named.behalf.as_deref().map(tracing::field::display),
            tenant = named.behalf.as_deref().map(|behalf| behalf.instance),
            step = entry.step,
            origin = entry.origin.as_str(),
            code = entry.id,
            status = entry.status.as_u16(),
            error = causes(error),
            remedy = entry.remedy,
            "request failed"
        );
    }
}

impl Line {
    fn of(request: &Request<Incoming>) -> Self {
        Self {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
        }
    }

    fn log(&self, named: &Named, status: StatusCode, request_id: &HeaderValue, took: Duration) {
        /// With the same fields, wherever it goes.
        macro_rules! line {
            ($event:ident, $($target:tt)*) => {
                tracing::$event!(
                    $($target)*
                    request_id = request_id.to_str().unwrap_or_default(),
                    destination = named.destination,
                    cr = named.behalf.as_deref().map(tracing::field::display),
                    method = %self.method,
                    path = self.path,
                    status = status.as_u16(),
                    milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                    "request"
                )
            };
        }
        if named.access_log {
            line!(info, target: logging::ACCESS,);
        } else {
            line!(debug,);
        }
    }
}

/// The target's answer as the application gets it.
fn answered(response: Response<ResponseBody>, request_id: &HeaderValue) -> Response<ResponseBody> {
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

/// What of the request shapes the answer, kept while the request itself is on its way.
pub(super) struct Caller {
    head: bool,
    grpc: bool,
    http2: bool,
    pub(super) upgrades: bool,
    /// See [`Client`](super::app::Client).
    pub(super) resets: bool,
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
    response.map(|body| body.keeping_turn(turn))
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
