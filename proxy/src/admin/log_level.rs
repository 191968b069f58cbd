//! `/log-level`: what is logged now, and a change of it without a restart.
//!
//! Whoever reaches the server may read; a change is taken only where the server listens
//! on the loopback interface, and never from a web page: browsers send `Origin` with
//! it, and a page that had its own name resolve to 127.0.0.1 shows in `Host`.

use http::header::{ALLOW, HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Body;
use tracing::warn;

use super::server::{Page, TEXT, page};
use crate::telemetry::logging::{Level, LogControl, NoLevel};

pub(super) const PATH: &str = "/log-level";

/// More than the longest level with blanks around.
const LONGEST_BODY: usize = 64;

pub(super) async fn answer<B>(request: Request<B>, log: &LogControl, on_loopback: bool) -> Page
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match *request.method() {
        Method::GET | Method::HEAD => page(StatusCode::OK, TEXT, format!("{}\n", log.level())),
        Method::PUT if on_loopback && is_local(request.headers()) => change(request.into_body(), log).await,
        Method::PUT => page(
            StatusCode::FORBIDDEN,
            TEXT,
            "the level is changed from this machine only, at a server on 127.0.0.1 or [::1]\n",
        ),
        _ => {
            let mut refused = page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET, HEAD and PUT\n");
            refused
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD, PUT"));
            refused
        }
    }
}

async fn change<B>(body: B, log: &LogControl) -> Page
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let level = match Limited::new(body, LONGEST_BODY).collect().await {
        Ok(body) => level(&body.to_bytes()),
        Err(_too_long) => Err(NoLevel),
    };
    let level = match level {
        Ok(level) => level,
        Err(error) => return page(StatusCode::BAD_REQUEST, TEXT, format!("{error}\n")),
    };
    match log.set(level) {
        Ok(()) => {
            // At this level, lest the change itself stays unseen.
            warn!(now = level.as_str(), "the log level was changed");
            page(StatusCode::OK, TEXT, format!("{level}\n"))
        }
        Err(error) => page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
    }
}

fn level(body: &[u8]) -> Result<Level, NoLevel> {
    let text = std::str::from_utf8(body).map_err(|_no_text| NoLevel)?;
    text.trim().parse()
}

/// Not from a page in a browser, whatever its name resolved to.
fn is_local(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host.and_then(|host| host.parse::<Authority>().ok());
    !headers.contains_key(ORIGIN)
        && host.is_some_and(|host| {
            let name = host.host().trim_start_matches('[').trim_end_matches(']');
            let address = name.parse::<std::net::IpAddr>();
            name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
        })
}
