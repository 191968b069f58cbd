//! Step 1 of the data path: the one accept loop.

mod limits;
mod listener;

pub use limits::{Exceeded, Limits, LimitsConfig, Permit, Usage};
pub use listener::{DescriptorLimit, bind, keepalive, raise_descriptor_limit};

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tracing::{Instrument, debug, debug_span, info, warn};

use self::listener::Listener;
use crate::lifecycle::drain::DrainWatch;

/// How long the loop rests when the process is out of descriptors or memory: it doubles from
/// the first to the second. Connections wait in the kernel's backlog meanwhile.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// A connection of an application, within the limits.
#[derive(Debug)]
pub struct Accepted<S = TcpStream> {
    /// Unique in this process; also in the span of the handler.
    pub id: u64,
    pub stream: S,
    /// IPv4 addresses appear as such, also on dual-stack listeners.
    pub peer: SocketAddr,
    pub drain: DrainWatch,
    /// Counts the connection in the limits until it is dropped.
    pub permit: Permit,
}

impl Accepted {
    /// Takes it from the runtime that accepted it, so that another one can [`attach`](Accepted::attach) it.
    pub fn detach(self) -> io::Result<Accepted<std::net::TcpStream>> {
        let Self {
            id,
            stream,
            peer,
            drain,
            permit,
        } = self;
        let stream = stream.into_std()?;
        Ok(Accepted {
            id,
            stream,
            peer,
            drain,
            permit,
        })
    }
}

impl Accepted<std::net::TcpStream> {
    /// Gives it to the runtime that this is called in.
    pub fn attach(self) -> io::Result<Accepted> {
        let Self {
            id,
            stream,
            peer,
            drain,
            permit,
        } = self;
        let stream = TcpStream::from_std(stream)?;
        Ok(Accepted {
            id,
            stream,
            peer,
            drain,
            permit,
        })
    }
}

/// A connection over a limit.
#[derive(Debug)]
pub struct Over<'a> {
    pub id: u64,
    pub stream: &'a TcpStream,
    pub peer: SocketAddr,
    pub limit: Exceeded,
}

/// What a listener asks about its connections.
pub trait Bounds: Send + Sync {
    /// Those in force now.
    fn limits(&self) -> Arc<Limits>;

    /// It is about to be closed.
    fn refused(&self, _over: &Over<'_>) {}

    /// What such a connection is told; without words it is reset.
    fn farewell(&self) -> Option<Bytes> {
        None
    }

    /// Nothing is accepted here until there is room again.
    fn waits(&self) {}
}

impl Bounds for Arc<Limits> {
    fn limits(&self) -> Arc<Limits> {
        Arc::clone(self)
    }
}

/// Accepts connections until the drain begins, and runs `handler` for each in a task of its own.
///
/// # Guarantees
///
/// - `TCP_NODELAY` and keepalive are set on every accepted socket (where the listener is not from
///   [`bind`], on those whose handshake came after this call).
/// - A connection over a limit is counted and closed at once; nothing of it is read.
/// - Lack of descriptors or memory pauses the loop, nothing ends it but the drain.
pub async fn serve<B, H, F>(listener: TcpListener, bounds: B, drain: DrainWatch, handler: H)
where
    B: Bounds,
    H: Fn(Accepted) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    if let Err(error) = listener::prepare(&SockRef::from(&listener)) {
        warn!(%error, "socket options of a listener cannot be set");
    }
    accept_loop(&listener, &bounds, &drain, handler).await;
}

async fn accept_loop<L, B, H, F>(listener: &L, bounds: &B, drain: &DrainWatch, handler: H)
where
    L: Listener,
    B: Bounds,
    H: Fn(Accepted) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let mut back_off = BackOff::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.draining() => return,
            accepted = accept_in_room(listener, bounds) => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                back_off.recovered();
                // Other listeners may have taken the room that this one saw before it waited.
                tokio::select! {
                    biased;
                    () = drain.draining() => return reset(stream),
                    () = room(bounds) => {}
                }
                admit(stream, canonical(peer), bounds, drain, &handler);
            }
            Err(error) if concerns_one_connection(&error) => {
                debug!(%error, "a connection ended before accept");
            }
            Err(error) => {
                let rest = back_off.failed(&error);
                bounds.limits().count_paused();
                tokio::select! {
                    () = drain.draining() => return,
                    () = tokio::time::sleep(rest) => {}
                }
            }
        }
    }
}

async fn accept_in_room<L, B>(listener: &L, bounds: &B) -> io::Result<(TcpStream, SocketAddr)>
where
    L: Listener,
    B: Bounds,
{
    room(bounds).await;
    listener.accept().await
}

async fn room<B: Bounds>(bounds: &B) {
    let limits = bounds.limits();
    if limits.is_full() {
        bounds.waits();
        limits.room().await;
    }
}

fn admit<B, H, F>(stream: TcpStream, peer: SocketAddr, bounds: &B, drain: &DrainWatch, handler: &H)
where
    B: Bounds,
    H: Fn(Accepted) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let id = next_id();
    let permit = match bounds.limits().admit(peer.ip()) {
        Ok(permit) => permit,
        Err(limit) => {
            debug!(conn_id = id, client.addr = %peer, %limit, "connection over the limit is closed");
            bounds.refused(&Over {
                id,
                stream: &stream,
                peer,
                limit,
            });
            dismiss(stream, bounds.farewell());
            return;
        }
    };
    // Entered at every poll, so it only exists where somebody looks inside; lines above debug
    // name the connection themselves.
    let span = debug_span!("connection", conn_id = id, client.addr = %peer);
    let accepted = Accepted {
        id,
        stream,
        peer,
        drain: drain.clone(),
        permit,
    };
    tokio::spawn(handler(accepted).instrument(span));
}

/// Closes a connection after these words. They go into an empty socket, so there is room for them.
///
/// What the peer has sent is not read, so Linux follows them by a reset (RFC 2525, section 2.17); a peer
/// reads first what came before.
fn dismiss(stream: TcpStream, words: Option<Bytes>) {
    let Some(words) = words else {
        return reset(stream);
    };
    match SockRef::from(&stream).send(&words) {
        Ok(sent) if sent == words.len() => drop(stream),
        _ => reset(stream),
    }
}

/// Closes a connection so that the peer sees a reset.
pub fn reset(stream: TcpStream) {
    if let Err(error) = SockRef::from(&stream).set_linger(Some(Duration::ZERO)) {
        debug!(%error, "connection is closed instead of reset");
    }
    drop(stream);
}

/// A number that names a connection in logs and on debug pages.
pub fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

/// Errors that were pending on the new socket; the listener is fine, see accept(2).
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkDown, NetworkUnreachable,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
    ) || matches!(
        error.raw_os_error(),
        Some(
            libc::EPROTO
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EOPNOTSUPP
                | libc::EPERM
        )
    )
}

/// Grows while accept fails; says so once at each end.
#[derive(Debug, Default)]
struct BackOff {
    rest: Option<Duration>,
}

impl BackOff {
    fn failed(&mut self, error: &io::Error) -> Duration {
        let rest = match self.rest {
            None => {
                warn!(%error, "accepting pauses");
                BACK_OFF.0
            }
            Some(rest) => (rest * 2).min(BACK_OFF.1),
        };
        *self.rest.insert(rest)
    }

    fn recovered(&mut self) {
        if self.rest.take().is_some() {
            info!("accepting goes on");
        }
    }
}

#[cfg(test)]
mod tests;
