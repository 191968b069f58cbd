//! From a configured target to an open connection: name, TCP, TLS, HTTP version.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::tls::{self, Alpn, TlsClient};
use super::super::{Dialer, Error};
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

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
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
