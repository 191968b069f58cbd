//! `Connection: Upgrade`: WebSocket and whatever else begins as HTTP/1.1.

use std::sync::Arc;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

use super::HttpService;
use super::app::AppConnection;
use super::body::{RequestBody, ResponseBody};
use super::exchange::is_invalid;
use super::headers;
use crate::connect::pool::{self, TargetIo};
use crate::error::{Error, Exchange};
use crate::framing::{self, Expected, ResponseGuard};
use crate::relay::Wire;
use crate::relay::tcp::{End, Limits, relay};

impl HttpService {
    /// Relays a request to change the protocol over a connection of its own, which is
    /// the application's from then on. A refusal is an answer like any other.
    pub(super) async fn upgrade(
        &self,
        mut request: Request<Incoming>,
        request_id: &HeaderValue,
        app: &Arc<AppConnection>,
    ) -> Result<Response<ResponseBody>, Error> {
        let protocol = headers::wanted_upgrade(request.headers()).cloned();
        let from_app = hyper::upgrade::on(&mut request);
        let (parts, incoming) = request.into_parts();
        let body = RequestBody::new(incoming, app, false);
        let prepared = self.prepare(parts, body, request_id, protocol.as_ref()).await;
        let (request, injection) = prepared.map_err(|(error, _body)| error)?;
        let opened = self.origin.open_for_upgrade();
        let io = self.named.measured(|steps| &steps.connect, opened).await?;
        let answered = self.ask(io, request);
        let mut response = self.named.measured(|steps| &steps.answer, answered).await?;
        match response.status() {
            StatusCode::SWITCHING_PROTOCOLS => {
                let from_target = hyper::upgrade::on(&mut response);
                tokio::spawn(relay_upgraded(from_app, from_target, Arc::clone(app)));
                return Ok(response.map(|_none| ResponseBody::empty()));
            }
            StatusCode::UNAUTHORIZED => self.authenticator.rejected(&injection),
            _ => {}
        }
        Ok(response.map(|body| ResponseBody::shared(body, self.read_timeout, None, None, None)))
    }

    async fn ask(&self, io: TargetIo, request: Request<RequestBody>) -> Result<Response<Incoming>, Error> {
        let (guard, handle) = ResponseGuard::new(io, framing::Limits::default());
        handle.expect(Expected::of(request.method(), true));
        let handshake = pool::http1_builder().handshake(TokioIo::new(guard)).await;
        let (mut sender, connection) =
            handshake.map_err(|error| Exchange::ClosedBeforeResponse(Some(error)))?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "connection to the target ended");
            }
        });
        let answer = tokio::time::timeout(self.read_timeout, sender.send_request(request)).await;
        let answer = answer.map_err(|_elapsed| Exchange::NotAnswering(self.read_timeout))?;
        Ok(answer.map_err(|error| match error {
            error if is_invalid(&error) => Exchange::InvalidResponse(error),
            error => Exchange::ClosedBeforeResponse(Some(error)),
        })?)
    }
}

/// Opaque bytes both ways, the end of one direction at a time. Only TCP keep-alive
/// limits the silence. It has no answer to finish, so it ends with the right to be connected.
async fn relay_upgraded(from_app: OnUpgrade, from_target: OnUpgrade, app: Arc<AppConnection>) {
    let both = futures_util::future::try_join(from_app, from_target).await;
    let (from_app, from_target) = match both {
        Ok(both) => both,
        Err(error) => return tracing::debug!(%error, "upgrade was not completed"),
    };
    let (mut from_app, mut from_target) = (TokioIo::new(from_app), TokioIo::new(from_target));
    tokio::select! {
        end = relay(&mut from_app, &mut from_target, Limits::default(), &()) => {
            if let End::Broken { error, .. } = end {
                tracing::debug!(%error, "upgraded connection broke off");
                app.reset();
            }
        }
        () = app.drain().revoked() => app.reset(),
    }
}

impl Wire for TokioIo<Upgraded> {}

/// The protocol that a target has changed to.
pub(super) fn agreed(parts: &http::response::Parts) -> Option<HeaderValue> {
    let switches = parts.status == StatusCode::SWITCHING_PROTOCOLS;
    switches.then(|| parts.headers.get(UPGRADE).cloned()).flatten()
}

pub(super) fn say_agreed(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, protocol);
}
