//! `/metrics`, alone on a port of its own or beside other pages.

use std::sync::Arc;

use http::{Request, StatusCode};
use tokio::net::TcpListener;

use super::server::{self, Page, TEXT, not_found, page};
use crate::lifecycle::drain::DrainSignal;
use crate::telemetry::registry::{Exposition, Metrics};

pub(super) const PATH: &str = "/metrics";

/// Serves nothing but metrics, until `drain` is cut or the process ends.
pub async fn serve(listener: TcpListener, metrics: Arc<Metrics>, drain: DrainSignal) {
    server::serve(listener, drain, move |request| {
        let page = match server::refuse_writing(request.method()) {
            Some(refused) => refused,
            None if request.uri().path() == PATH => answer(&metrics, &request),
            None => not_found(PATH),
        };
        async { page }
    })
    .await;
}

pub(super) fn answer<B>(metrics: &Metrics, request: &Request<B>) -> Page {
    let exposition = Exposition::wanted_by(&server::accepted(request));
    match metrics.encode(exposition) {
        Ok(text) => page(StatusCode::OK, exposition.content_type(), text),
        Err(_) => page(
            StatusCode::INTERNAL_SERVER_ERROR,
            TEXT,
            "the metrics cannot be written\n",
        ),
    }
}
