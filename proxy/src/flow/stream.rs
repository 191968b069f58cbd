//! TCP destinations: dial at once, then pass bytes on.

mod metrics;
mod record;

pub use metrics::TcpMetrics;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::{debug, error};

use self::record::{Record, Verdict};
use crate::accept::{self, Accepted};
use crate::connect::Dialer;
use crate::error::{Error, catalogue};
use crate::flow::behalf::Behalf;
use crate::relay::tcp::{self, End};
use crate::resolve::destination::{DestinationName, TcpDestination};
use crate::telemetry::connections::Connections;
use crate::telemetry::logging::CONNECTION;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpSettings {
    /// After one side has ended, how long the other may stay silent.
    pub half_close_timeout: Duration,
}

impl Default for TcpSettings {
    fn default() -> Self {
        Self {
            half_close_timeout: tcp::Limits::default().half_close,
        }
    }
}

/// What TCP destinations are served with.
#[derive(Clone)]
pub struct TcpParts {
    pub dialer: Arc<dyn Dialer>,
    pub connections: Connections,
    pub metrics: TcpMetrics,
    pub settings: TcpSettings,
    /// `None` where there are no Destination CRs.
    pub behalf: Option<Arc<Behalf>>,
}

/// One version of a TCP destination.
pub struct TcpService {
    name: DestinationName,
    target: Arc<TcpDestination>,
    parts: TcpParts,
}

impl TcpService {
    pub fn new(name: DestinationName, target: Arc<TcpDestination>, parts: TcpParts) -> Self {
        Self { name, target, parts }
    }
}

/// Stands for a TCP destination that cannot be served.
pub struct NoTcpService {
    name: String,
    error: Error,
    parts: TcpParts,
}

impl NoTcpService {
    pub fn new(name: String, error: impl Into<Error>, parts: TcpParts) -> Self {
        let error = error.into();
        Self { name, error, parts }
    }
}

/// Resets a connection to a destination that cannot be served: in most protocols there is no
/// way to say more.
pub fn refuse_connection(accepted: Accepted, service: &NoTcpService) {
    let entry = catalogue::entry(&service.error);
    service.parts.metrics.total.inc();
    service.parts.metrics.count_end(entry.id, 0, 0);
    if let Some(behalf) = &service.parts.behalf {
        behalf.failed();
    }
    error!(
        target: CONNECTION,
        conn_id = accepted.id,
        client.addr = %accepted.peer,
        destination = service.name,
        cr = service.parts.behalf.as_deref().map(tracing::field::display),
        result = entry.id,
        origin = entry.origin.as_str(),
        remedy = entry.remedy,
        "no destination: {}",
        service.error,
    );
    accept::reset(accepted.stream);
}

/// Serves one connection of an application from its acceptance to its end.
///
/// # Guarantees
///
/// - The target is dialled before the application has sent anything: in many protocols the server
///   speaks first.
/// - If there is no connection to the target, the application sees a reset at once.
/// - A reset on one side becomes a reset on the other, an end of stream an end of stream.
pub async fn serve_connection(accepted: Accepted, service: Arc<TcpService>) {
    let Accepted {
        id,
        stream: app,
        peer,
        drain,
        permit,
    } = accepted;
    let mut record = Record::open(&service.name, &service.target, &service.parts, id, peer);
    let verdict = tokio::select! {
        biased;
        verdict = service.serve(app, &record) => verdict,
        // Dropping the streams inside would end them in good order; `Aborted` resets them.
        () = drain.revoked() => Verdict::Cut,
    };
    record.finish(verdict);
    drop(permit);
}

impl TcpService {
    async fn serve(&self, app: TcpStream, record: &Record) -> Verdict {
        let mut app = Aborted::new(app);
        let mut target = match self.dial().await {
            Ok(target) => Aborted::new(target),
            Err(error) => return Verdict::NotConnected(error),
        };
        record.connected();
        let end = tcp::relay(
            app.stream(),
            target.stream(),
            self.limits(),
            record.entry().as_ref(),
        )
        .await;
        if !matches!(end, End::Broken { .. }) {
            app.close();
            self.bound_delivery(&target.close());
        }
        Verdict::Relayed(end)
    }

    async fn dial(&self) -> Result<TcpStream, crate::connect::Error> {
        let TcpDestination {
            host,
            port,
            connect_timeout,
            socket,
        } = &*self.target;
        let begin = Instant::now();
        let dialer = &self.parts.dialer;
        let dialled = dialer.dial(host, *port, socket, *connect_timeout).await;
        if let Some(behalf) = &self.parts.behalf {
            behalf.steps.connect.took(begin.elapsed());
        }
        dialled
    }

    fn limits(&self) -> tcp::Limits {
        tcp::Limits {
            half_close: self.parts.settings.half_close_timeout,
            idle: self.target.socket.idle_timeout,
        }
    }

    /// `tcp.socket.linger` without a close(2) that waits: the kernel goes on delivering for that
    /// long and aborts the connection then (`TCP_USER_TIMEOUT`, tcp(7)).
    fn bound_delivery(&self, target: &TcpStream) {
        if let Some(linger) = self.target.socket.linger.filter(|linger| !linger.is_zero())
            && let Err(error) = SockRef::from(target).set_tcp_user_timeout(Some(linger))
        {
            debug!(%error, "linger cannot be set");
        }
    }
}

/// A stream that is reset when it is dropped, unless it was closed before.
struct Aborted(Option<TcpStream>);

impl Aborted {
    fn new(stream: TcpStream) -> Self {
        Self(Some(stream))
    }

    fn stream(&mut self) -> &mut TcpStream {
        self.0.as_mut().expect("the stream is there until it is closed")
    }

    fn close(mut self) -> TcpStream {
        self.0.take().expect("the stream is there until it is closed")
    }
}

impl Drop for Aborted {
    fn drop(&mut self) {
        if let Some(stream) = self.0.take() {
            accept::reset(stream);
        }
    }
}

/// Whether a side was reset by its peer, rather than lost.
fn is_reset(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

#[cfg(test)]
mod tests;
