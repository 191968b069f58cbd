//! From a configured target to an open connection: name, TCP, TLS, HTTP version.

use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::Instant;

use super::super::tls::{self, Alpn, TlsClient};
use super::super::{Dialer, Error};
use super::RequestBody;
use super::io::TargetIo;
use crate::resolve::destination::{HttpDestination, SocketOptions};
use crate::resolve::keystore::CertificateStore;

/// How to reach one target.
pub struct Connector {
    dialer: Arc<dyn Dialer>,
    host: String,
    port: u16,
    socket: SocketOptions,
    /// For name look-up, TCP and TLS together.
    timeout: Duration,
    tls: Option<Tls>,
    http2_prior_knowledge: bool,
}

struct Tls {
    any_version: TlsClient,
    /// For upgrades, which HTTP/2 does not have.
    http1: TlsClient,
}

pub(super) enum Opened {
    Http1(TargetIo),
    Http2(TargetIo),
}

impl Connector {
    pub fn new(
        destination: &HttpDestination,
        dialer: Arc<dyn Dialer>,
        additional_cas: &CertificateStore,
        http2_prior_knowledge: bool,
    ) -> Result<Self, tls::Error> {
        let tls = match destination.tls.as_deref() {
            None => None,
            Some(policy) => Some(Tls {
                any_version: TlsClient::new(policy, Alpn::Http2OrHttp1, additional_cas)?,
                http1: TlsClient::new(policy, Alpn::Http1, additional_cas)?,
            }),
        };
        Ok(Self {
            dialer,
            host: destination.url.host.clone(),
            port: destination.url.port,
            socket: SocketOptions::default(),
            timeout: destination.connect_timeout,
            tls,
            http2_prior_knowledge,
        })
    }

    pub(super) fn may_speak_http2(&self) -> bool {
        self.tls.is_some() || self.http2_prior_knowledge
    }

    pub(super) async fn open(&self) -> Result<Opened, Error> {
        let deadline = Instant::now() + self.timeout;
        let tcp = self
            .dialer
            .dial(&self.host, self.port, &self.socket, self.timeout)
            .await?;
        let Some(Tls { any_version, .. }) = &self.tls else {
            let io = TargetIo::plain(tcp);
            return Ok(if self.http2_prior_knowledge {
                Opened::Http2(io)
            } else {
                Opened::Http1(io)
            });
        };
        let stream = any_version
            .handshake(tcp, &self.host, deadline, self.timeout)
            .await?;
        let http2 = tls::negotiated_h2(&stream);
        let io = TargetIo::tls(stream);
        Ok(if http2 {
            Opened::Http2(io)
        } else {
            Opened::Http1(io)
        })
    }

    pub(super) async fn open_http1(&self) -> Result<TargetIo, Error> {
        let deadline = Instant::now() + self.timeout;
        let tcp = self
            .dialer
            .dial(&self.host, self.port, &self.socket, self.timeout)
            .await?;
        let Some(Tls { http1, .. }) = &self.tls else {
            return Ok(TargetIo::plain(tcp));
        };
        http1
            .handshake(tcp, &self.host, deadline, self.timeout)
            .await
            .map(TargetIo::tls)
    }
}

/// Windows large enough for 1 Gbit/s at 10 ms; memory per stream stays bounded.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

pub(super) async fn http2_handshake<B: RequestBody>(io: TargetIo) -> Result<http2::SendRequest<B>, Error> {
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(64 * 1024)
        .handshake(TokioIo::new(io))
        .await
        .map_err(|error| Error::Io(std::io::Error::other(error)))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "HTTP/2 connection to the target ended");
        }
    });
    Ok(sender)
}
