//! The pages of the role: `/status`, `/destinationCRs`, and `/` for people.

use std::sync::Arc;

use http::{Request, StatusCode};
use tokio::net::TcpListener;

use super::Installation;
use super::page;
use crate::admin::server::{self, HTML, Page, TEXT, json, not_found};
use crate::lifecycle::drain::DrainSignal;

/// Serves until `drain` is cut or the process ends.
pub async fn serve(listener: TcpListener, installation: Arc<Installation>, drain: DrainSignal) {
    server::serve(listener, drain, move |request: Request<_>| {
        let installation = Arc::clone(&installation);
        async move { installation.answer(&request).await }
    })
    .await;
}

impl Installation {
    async fn answer<B>(&self, request: &Request<B>) -> Page {
        if let Some(refused) = server::refuse_writing(request.method()) {
            return refused;
        }
        match request.uri().path() {
            "/status" => self.status().await.map_or_else(not_yet, |status| json(&status)),
            "/destinationCRs" => self.destinations().map_or_else(not_yet, |all| json(&all)),
            "/" => self.page().await.unwrap_or_else(not_yet),
            _ => not_found("/, /status, /destinationCRs"),
        }
    }

    async fn page(&self) -> Option<Page> {
        let (status, destinations) = (self.status().await?, self.destinations()?);
        let pods = self.pods()?;
        let hooks = self.hooks.of(&pods).await;
        let text = page::render(&status, &pods, &hooks, &destinations);
        Some(server::page(StatusCode::OK, HTML, text))
    }
}

/// There is nothing yet that an answer could be made of.
fn not_yet() -> Page {
    server::page(
        StatusCode::SERVICE_UNAVAILABLE,
        TEXT,
        "the API server has not told everything yet\n",
    )
}
