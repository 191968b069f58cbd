//! The story of one connection: listed while it is open, counted and logged once at its end.

use std::net::SocketAddr;
use std::sync::Arc;

use tracing::{error, info};

use super::{TcpMetrics, TcpParts, is_reset};
use crate::connect;
use crate::flow::behalf::Behalf;
use crate::relay::tcp::{End, Side};
use crate::resolve::destination::{DestinationName, TcpDestination};
use crate::telemetry::connections::{About, Direction, Entry, Listed, State};
use crate::telemetry::logging::CONNECTION;

/// How a connection ended.
#[derive(Debug)]
pub(super) enum Verdict {
    NotConnected(connect::Error),
    Relayed(End),
    /// The destination was removed or is no longer for the caller, or the drain came to its deadline.
    Cut,
    /// The task was dropped.
    Forgotten,
}

pub(super) struct Record {
    listed: Listed,
    metrics: TcpMetrics,
    behalf: Option<Arc<Behalf>>,
    finished: bool,
}

impl Record {
    pub(super) fn open(
        name: &DestinationName,
        target: &TcpDestination,
        parts: &TcpParts,
        id: u64,
        peer: SocketAddr,
    ) -> Self {
        let target = format!("{}:{}", target.host, target.port);
        parts.metrics.total.inc();
        parts.metrics.open.inc();
        Self {
            listed: parts.connections.open(About {
                id,
                protocol: "tcp",
                cr: parts.behalf.as_deref().map(Behalf::to_string),
                destination: name.to_string(),
                source: peer,
                target,
            }),
            metrics: parts.metrics.clone(),
            behalf: parts.behalf.clone(),
            finished: false,
        }
    }

    pub(super) fn entry(&self) -> &Arc<Entry> {
        self.listed.entry()
    }

    pub(super) fn connected(&self) {
        self.entry().set_state(State::Open);
    }

    pub(super) fn finish(&mut self, verdict: Verdict) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        let entry = self.listed.entry();
        let (from_app, from_target) = (
            entry.bytes(Direction::FromApp),
            entry.bytes(Direction::FromTarget),
        );
        self.metrics.open.dec();
        self.metrics.count_end(verdict.label(), from_app, from_target);
        match verdict {
            Verdict::NotConnected(error) => {
                let behalf = self.behalf.as_deref();
                if let Some(behalf) = behalf {
                    behalf.failed();
                }
                log_not_connected(entry, behalf, &error);
            }
            verdict => info!(
                target: CONNECTION,
                conn_id = entry.about.id,
                client.addr = %entry.about.source,
                destination = %entry.about.destination,
                cr = self.behalf.as_deref().map(tracing::field::display),
                server = %entry.about.target,
                result = verdict.label(),
                bytes_from_app = from_app,
                bytes_from_target = from_target,
                duration = ?entry.age(),
                "connection ended"
            ),
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.finish(Verdict::Forgotten);
    }
}

fn log_not_connected(entry: &Entry, behalf: Option<&Behalf>, failure: &connect::Error) {
    error!(
        target: CONNECTION,
        conn_id = entry.about.id,
        client.addr = %entry.about.source,
        destination = %entry.about.destination,
        cr = behalf.map(tracing::field::display),
        server = %entry.about.target,
        result = connect_label(failure),
        error = std::error::Error::source(failure).map(tracing::field::display),
        duration = ?entry.age(),
        "no connection to the target: {failure}"
    );
}

impl Verdict {
    fn label(&self) -> &'static str {
        match self {
            Self::NotConnected(error) => connect_label(error),
            Self::Relayed(End::Closed) => "closed",
            Self::Relayed(End::Broken {
                side: Side::App,
                error,
            }) if is_reset(error) => "app_reset",
            Self::Relayed(End::Broken { side: Side::App, .. }) => "app_lost",
            Self::Relayed(End::Broken {
                side: Side::Target,
                error,
            }) if is_reset(error) => "target_reset",
            Self::Relayed(End::Broken {
                side: Side::Target, ..
            }) => "target_lost",
            Self::Relayed(End::HalfCloseTimeout) => "half_close_timeout",
            Self::Relayed(End::IdleTimeout) => "idle_timeout",
            Self::Cut => "cut",
            Self::Forgotten => "forgotten",
        }
    }
}

fn connect_label(error: &connect::Error) -> &'static str {
    match error {
        connect::Error::HostNotFound(_) => "host_not_found",
        connect::Error::Refused(_) => "connect_refused",
        connect::Error::Reset(_) => "connect_reset",
        connect::Error::Unreachable(_) => "unreachable",
        connect::Error::NoLocalPort(_) => "no_local_port",
        connect::Error::AddressNotAllowed => "address_not_allowed",
        connect::Error::Tls(_) => "tls_failed",
        connect::Error::TimedOut(_) => "connect_timeout",
        connect::Error::Io(_) => "connect_failed",
    }
}
