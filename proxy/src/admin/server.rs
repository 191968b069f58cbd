//! The little HTTP server below all pages.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tracing::debug;

use crate::accept::{self, Accepted, Limits, LimitsConfig};
use crate::lifecycle::drain::{Drain, DrainSignal};

/// Longest wait for the head of a request, also between two of them.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time from accept to the end of a connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_mins(10);

/// Few clients are expected here.
const LIMITS: LimitsConfig = LimitsConfig {
    per_source: 64,
    total: Some(256),
    pause_at: None,
};

pub(crate) const HTML: &str = "text/html; charset=utf-8";
pub(crate) const JSON: &str = "application/json";
pub(crate) const TEXT: &str = "text/plain; charset=utf-8";

pub(crate) type Page = Response<Full<Bytes>>;

/// Serves until `drain` is cut or the process ends: also while it drains.
pub(crate) async fn serve<H, F>(listener: TcpListener, drain: DrainSignal, handler: H)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Page> + Send + 'static,
{
    // The accept loop goes on while the process drains.
    let own = Drain::new();
    let accepting = accept::serve(listener, Limits::new(LIMITS), own.watch(), |accepted| {
        connection(accepted, handler.clone())
    });
    tokio::select! {
        () = accepting => {}
        () = drain.cut() => own.cut(),
    }
}

async fn connection<H, F>(accepted: Accepted, handler: H)
where
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Page>,
{
    let service = service_fn(move |request| {
        let answer = handler(request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(accepted.stream), service);
    tokio::select! {
        served = tokio::time::timeout(CONNECTION_TIMEOUT, serving) => {
            if let Ok(Err(error)) = served {
                debug!(%error, "connection to the admin server failed");
            }
        }
        () = accepted.drain.cut() => {}
    }
}

/// The answer to whoever wants more than to read.
pub(crate) fn refuse_writing(method: &Method) -> Option<Page> {
    if matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    let mut refused = page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n");
    refused
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    Some(refused)
}

/// Browsers name `text/html` first; everything else gets JSON.
pub(crate) fn wants_html<B>(request: &Request<B>) -> bool {
    let accept = accepted(request);
    match (accept.find("text/html"), accept.find(JSON)) {
        (Some(html), Some(json)) => html < json,
        (html, _) => html.is_some(),
    }
}

/// What the client wants to read, all in one line.
pub(super) fn accepted<B>(request: &Request<B>) -> String {
    let fields = request.headers().get_all(ACCEPT).iter();
    let fields: Vec<&str> = fields.filter_map(|field| field.to_str().ok()).collect();
    fields.join(",")
}

pub(crate) fn json(value: &impl serde::Serialize) -> Page {
    match serde_json::to_vec_pretty(value) {
        Ok(text) => page(StatusCode::OK, JSON, text),
        Err(_) => page(
            StatusCode::INTERNAL_SERVER_ERROR,
            TEXT,
            "the page cannot be written\n",
        ),
    }
}

pub(crate) fn page(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Page {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        "content-security-policy",
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'"),
    );
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

pub(crate) fn not_found(where_to_look: &str) -> Page {
    page(
        StatusCode::NOT_FOUND,
        TEXT,
        format!("not found; see {where_to_look}\n"),
    )
}
