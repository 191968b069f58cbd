//! Straight to the target: the system resolver, then Happy Eyeballs.

mod own_addresses;
mod resolver;

pub use own_addresses::OwnAddresses;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use self::resolver::Resolver;
use super::{Dialer, Error};
use crate::accept::keepalive;
use crate::resolve::destination::SocketOptions;

/// How much earlier an address is tried than the next one ("Connection Attempt Delay", RFC 8305, section 8).
const HEAD_START: Duration = Duration::from_millis(250);

/// Is shown every socket before it connects, to exempt it from redirection.
pub type SocketHook = Arc<dyn Fn(BorrowedFd<'_>) -> io::Result<()> + Send + Sync>;

/// How [`Direct`] dials.
#[derive(Clone, Default)]
pub struct Config {
    /// `None` where nothing is redirected.
    pub socket_hook: Option<SocketHook>,
    /// Addresses that would lead back to this proxy.
    pub own: Arc<OwnAddresses>,
    /// Refuses targets on the loopback interface of the proxy.
    pub forbid_loopback: bool,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("socket_hook", &self.socket_hook.is_some())
            .field("own", &self.own)
            .field("forbid_loopback", &self.forbid_loopback)
            .finish()
    }
}

/// Connects without another proxy in between.
///
/// # Guarantees
///
/// - All addresses of a name are tried, in the order of the resolver (which is that of RFC 6724),
///   each after a head start of its predecessor or at once after its failure.
/// - No socket is bound before it connects: that would use up local ports early.
#[derive(Debug)]
pub struct Direct {
    config: Config,
    resolver: Resolver,
}

impl Direct {
    pub fn new(config: Config) -> Self {
        Self {
            config,
            resolver: Resolver::default(),
        }
    }

    async fn connect(
        &self,
        host: &str,
        port: u16,
        options: &SocketOptions,
        timeout: Duration,
    ) -> Result<TcpStream, Error> {
        let addresses = self
            .resolver
            .lookup(host, port)
            .await
            .map_err(Error::HostNotFound)?;
        let allowed: Vec<_> = addresses
            .into_iter()
            .filter(|address| self.allows(*address))
            .collect();
        if allowed.is_empty() {
            return Err(Error::AddressNotAllowed);
        }
        race(allowed, |address| self.attempt(address, options))
            .await
            .map_err(|error| classify(error, timeout))
    }

    fn allows(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        let loopback = ip.is_loopback() || ip.is_unspecified();
        if loopback && self.config.forbid_loopback {
            return false;
        }
        !self.config.own.contains(SocketAddr::new(ip, address.port()))
    }

    async fn attempt(&self, address: SocketAddr, options: &SocketOptions) -> io::Result<TcpStream> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM.nonblocking().cloexec(),
            Some(Protocol::TCP),
        )?;
        apply(&socket, options)?;
        if let Some(hook) = &self.config.socket_hook {
            hook(socket.as_fd())?;
        }
        TcpSocket::from_std_stream(socket.into()).connect(address).await
    }
}

impl Dialer for Direct {
    fn dial<'a>(
        &'a self,
        host: &'a str,
        port: u16,
        options: &'a SocketOptions,
        timeout: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<TcpStream, Error>> + Send + 'a>> {
        Box::pin(async move {
            tokio::time::timeout(timeout, self.connect(host, port, options, timeout))
                .await
                .unwrap_or(Err(Error::TimedOut(timeout)))
        })
    }
}

/// Runs attempts until one succeeds; otherwise the most telling error is returned.
async fn race<T, F>(addresses: Vec<SocketAddr>, attempt: impl Fn(SocketAddr) -> F) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut waiting = addresses.into_iter();
    let mut running = FuturesUnordered::new();
    let mut worst: Option<io::Error> = None;
    loop {
        running.extend(waiting.next().map(&attempt));
        tokio::select! {
            ended = running.next() => match ended {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => worst = Some(more_telling(worst, error)),
                None => return Err(worst.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into())),
            },
            () = tokio::time::sleep(HEAD_START), if waiting.len() > 0 => {}
        }
    }
}

/// An answer of the target says more than a family without a route.
fn more_telling(worst: Option<io::Error>, error: io::Error) -> io::Error {
    match worst {
        Some(worst) if weight(&worst) >= weight(&error) => worst,
        _ => error,
    }
}

fn weight(error: &io::Error) -> u8 {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => 3,
        io::ErrorKind::TimedOut => 2,
        io::ErrorKind::AddrNotAvailable => 1,
        _ => 0,
    }
}

fn classify(error: io::Error, timeout: Duration) -> Error {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Error::Refused(error),
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => Error::Reset(error),
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkDown => {
            Error::Unreachable(error)
        }
        io::ErrorKind::AddrNotAvailable => Error::NoLocalPort(error),
        io::ErrorKind::TimedOut => Error::TimedOut(timeout),
        _ => Error::Io(error),
    }
}

fn apply(socket: &Socket, options: &SocketOptions) -> io::Result<()> {
    socket.set_tcp_nodelay(options.nodelay)?;
    if options.keepalive {
        socket.set_tcp_keepalive(&keepalive())?;
    }
    // With a time above zero, close(2) would wait, also on sockets that do not block;
    // the relay bounds the delivery at its end instead.
    if options.linger.is_some_and(|linger| linger.is_zero()) {
        socket.set_linger(options.linger)?;
    }
    // Before connect, so that the window is announced accordingly (tcp(7)).
    if let Some(size) = options.send_buffer {
        socket.set_send_buffer_size(size)?;
    }
    if let Some(size) = options.receive_buffer {
        socket.set_recv_buffer_size(size)?;
    }
    Ok(())
}

/// An address without brackets, where `host` is one.
fn literal(host: &str) -> Option<IpAddr> {
    host.parse().ok()
}

#[cfg(test)]
mod tests;
