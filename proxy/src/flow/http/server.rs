//! The server that applications talk to: HTTP/1.0, HTTP/1.1, and HTTP/2 for those that begin with it.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::HttpService;
use super::app::{AppConnection, AppStream};
use crate::lifecycle::drain::DrainWatch;

/// Header fields of a request; with more it is refused.
const MAX_FIELDS: usize = 256;
/// Bytes buffered per connection and direction.
const MAX_BUFFER: usize = 128 * 1024;
const MAX_STREAMS: u32 = 256;
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// Serves the requests of one application connection.
///
/// # Expected flow
///
/// `service` is asked for the destination's current version with every request, so a
/// changed configuration applies to the next one. When the drain begins, HTTP/1
/// answers say `Connection: close`, HTTP/2 gets a GOAWAY, and what runs is finished.
///
/// # Guarantees
///
/// An application that goes away cancels its request to the target: closing its
/// sending half counts as going away, as with other HTTP proxies. An answer that
/// cannot be completed aborts the application's connection.
pub async fn serve_connection<S>(io: TcpStream, peer: SocketAddr, service: S, drain: DrainWatch)
where
    S: Fn() -> Arc<HttpService> + Send + Sync + 'static,
{
    let app = Arc::new(AppConnection::new(drain.clone()));
    let served = match detect(&io).await {
        Detected::Http1 => serve_http1(io, app, service, &drain).await,
        Detected::Http2 => serve_http2(io, app, service, &drain).await,
        Detected::Closed => return,
    };
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "connection of the application broke off");
    }
}

async fn serve_http1<S>(io: TcpStream, app: Arc<AppConnection>, service: S, drain: &DrainWatch) -> hyper::Result<()>
where
    S: Fn() -> Arc<HttpService> + Send + Sync + 'static,
{
    let stream = AppStream::new(io, Arc::clone(&app));
    let answer = service_fn(move |request| respond(service(), request, Arc::clone(&app)));
    let connection = http1::Builder::new()
        .preserve_header_case(true)
        .title_case_headers(false)
        .max_headers(MAX_FIELDS)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(TokioIo::new(stream), answer)
        .with_upgrades();
    drive(connection, http1::UpgradeableConnection::graceful_shutdown, drain).await
}

async fn serve_http2<S>(io: TcpStream, app: Arc<AppConnection>, service: S, drain: &DrainWatch) -> hyper::Result<()>
where
    S: Fn() -> Arc<HttpService> + Send + Sync + 'static,
{
    let stream = AppStream::new(io, Arc::clone(&app));
    let answer = service_fn(move |request| respond(service(), request, Arc::clone(&app)));
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), answer);
    drive(connection, http2::Connection::graceful_shutdown, drain).await
}

async fn respond(
    service: Arc<HttpService>,
    request: Request<Incoming>,
    app: Arc<AppConnection>,
) -> Result<http::Response<super::ResponseBody>, Infallible> {
    Ok(service.handle(request, app).await)
}

/// Runs a connection to its end, and asks it to end when the drain begins.
async fn drive<C: Future>(connection: C, shut_down: impl FnOnce(Pin<&mut C>), drain: &DrainWatch) -> C::Output {
    let mut connection = pin!(connection);
    let mut draining = pin!(drain.draining());
    let mut shut_down = Some(shut_down);
    let mut is_watched = false;
    poll_fn(|cx| {
        // First, so that a request that is here already is not closed on.
        if let Poll::Ready(output) = connection.as_mut().poll(cx) {
            return Poll::Ready(output);
        }
        // The watch has our waker after the first look; later ones are a flag.
        if shut_down.is_none() || (is_watched && !drain.is_draining()) {
            return Poll::Pending;
        }
        is_watched = true;
        ready!(draining.as_mut().poll(cx));
        if let Some(shut_down) = shut_down.take() {
            shut_down(connection.as_mut());
        }
        connection.as_mut().poll(cx)
    })
    .await
}

enum Detected {
    Http1,
    Http2,
    Closed,
}

/// First bytes must come within this time.
const FIRST_BYTES: Duration = Duration::from_secs(60);

/// HTTP/2 begins with a preface that is no HTTP/1 request (RFC 9113, section 3.4).
async fn detect(io: &TcpStream) -> Detected {
    tokio::time::timeout(FIRST_BYTES, async {
        let mut first = [0; 4];
        loop {
            match io.peek(&mut first).await {
                Ok(0) | Err(_) => return Detected::Closed,
                Ok(4) if first == *b"PRI " => return Detected::Http2,
                Ok(length) if length < 4 && b"PRI ".starts_with(&first[..length]) => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Ok(_) => return Detected::Http1,
            }
        }
    })
    .await
    .unwrap_or(Detected::Closed)
}
