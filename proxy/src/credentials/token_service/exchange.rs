//! One HTTP request to a token service, over a connection of its own: calls are rare.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use zeroize::Zeroizing;

use super::super::{Error, InvalidToken};
use crate::connect::tls::{TlsClient, classify_io};
use crate::connect::{self, Dialer};
use crate::resolve::destination::{SocketOptions, TargetUrl};

/// Tokens are a few kilobytes; whatever is larger is none.
const LARGEST_BODY: usize = 1024 * 1024;
/// Lest many destinations that start together flood one service.
const CALLS_AT_ONCE: usize = 32;

/// What is asked, and how long that may take.
pub(in crate::credentials) struct Call<'a> {
    pub(in crate::credentials) url: &'a TargetUrl,
    /// Path and query of the URL.
    pub(in crate::credentials) uri: Uri,
    pub(in crate::credentials) headers: HeaderMap,
    pub(in crate::credentials) body: Bytes,
    pub(in crate::credentials) connect_timeout: Duration,
    /// Limit of every single wait for the service.
    pub(in crate::credentials) read_timeout: Duration,
    /// Limit of everything together.
    pub(in crate::credentials) deadline: Instant,
    pub(in crate::credentials) tls: Option<&'a TlsClient>,
}

pub(in crate::credentials) struct Answer {
    pub(in crate::credentials) status: StatusCode,
    pub(in crate::credentials) headers: HeaderMap,
    pub(in crate::credentials) body: Zeroizing<Vec<u8>>,
}

/// Makes the calls.
pub(in crate::credentials) struct Caller {
    dialer: Arc<dyn Dialer>,
    turns: Turns,
}

/// The calls at once of each service, by host and port.
#[derive(Default)]
struct Turns(Mutex<HashMap<(String, u16), Arc<Semaphore>>>);

impl Turns {
    /// Forgets services that nobody calls, so there are never more than are being called.
    fn of(&self, service: &TargetUrl) -> Arc<Semaphore> {
        let mut services = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        services.retain(|_service, turns| Arc::strong_count(turns) > 1);
        let turns = services
            .entry((service.host.clone(), service.port))
            .or_insert_with(|| Arc::new(Semaphore::new(CALLS_AT_ONCE)));
        Arc::clone(turns)
    }
}

impl Caller {
    pub(super) fn new(dialer: Arc<dyn Dialer>) -> Self {
        Self {
            dialer,
            turns: Turns::default(),
        }
    }

    pub(in crate::credentials) async fn post(&self, call: Call<'_>) -> Result<Answer, Error> {
        let turn = self.turns.of(call.url).acquire_owned();
        let turn = timeout_at(call.deadline, turn).await;
        let turn = turn.map_err(|_elapsed| Error::TokenServiceBusy(CALLS_AT_ONCE))?;
        let _turn = turn.expect("the semaphore is never closed");
        let limit = call.read_timeout;
        match timeout_at(call.deadline, self.post_in_turn(call)).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(Error::TokenServiceTimedOut(limit)),
        }
    }

    async fn post_in_turn(&self, call: Call<'_>) -> Result<Answer, Error> {
        let connect_by = Instant::now() + call.connect_timeout;
        let url = call.url;
        let options = SocketOptions::default();
        let tcp = self
            .dialer
            .dial(&url.host, url.port, &options, call.connect_timeout)
            .await;
        let tcp = tcp.map_err(unreachable)?;
        match call.tls {
            Some(tls) => {
                let stream = tls
                    .handshake(tcp, &url.host, connect_by, call.connect_timeout)
                    .await;
                exchange(stream.map_err(unreachable)?, call).await
            }
            None => exchange(tcp, call).await,
        }
    }
}

fn unreachable(error: connect::Error) -> Error {
    Error::TokenServiceUnreachable(Arc::new(error))
}

async fn exchange<S>(stream: S, call: Call<'_>) -> Result<Answer, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let limit = call.read_timeout;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(&error))?;
    let request = request(call);
    let answer = async move {
        let response = within(limit, sender.send_request(request))
            .await?
            .map_err(|error| broken(&error))?;
        let (head, body) = response.into_parts();
        let body = read_body(body, limit).await?;
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body,
        })
    };
    // The connection is driven here instead of in a task: it ends with the call.
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // What it had read before it ended may be the whole answer.
        _ended = &mut connection => answer.await,
    }
}

fn request(call: Call<'_>) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(call.body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = call.uri;
    *request.headers_mut() = call.headers;
    request
        .headers_mut()
        .insert(header::HOST, call.url.authority.clone());
    request
}

async fn read_body(mut body: Incoming, limit: Duration) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(8192));
    while let Some(frame) = within(limit, body.frame()).await? {
        let frame = frame.map_err(|error| broken(&error))?;
        let Some(data) = frame.data_ref() else { continue };
        if bytes.len() + data.len() > LARGEST_BODY {
            return Err(Error::InvalidTokenResponse(InvalidToken::TooLarge));
        }
        bytes.extend_from_slice(data);
    }
    Ok(bytes)
}

async fn within<T>(limit: Duration, wait: impl Future<Output = T>) -> Result<T, Error> {
    timeout(limit, wait)
        .await
        .map_err(|_elapsed| Error::TokenServiceTimedOut(limit))
}

/// A refused client certificate shows only here with TLS 1.3.
fn broken(error: &hyper::Error) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(failure) = current.downcast_ref().and_then(classify_io) {
            return unreachable(connect::Error::Tls(failure));
        }
        cause = current.source();
    }
    Error::TokenServiceProtocol
}
