//! Connections to targets, kept for the next request.
//!
//! An idle HTTP/1 connection is parked together with the future that drives it and
//! no task watches it: whoever takes it looks at it first, a sweep closes what grew
//! old. HTTP/2 connections are shared and have a task of their own.

mod connector;
mod http1;
mod http2;
mod io;
mod key;

use std::collections::HashMap;
use std::num::NonZero;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Waker};
use std::time::Duration;

use hyper::body::Body;
use tokio::time::Instant;

pub use self::connector::Connector;
use self::connector::Opened;
pub use self::http1::Http1;
pub(crate) use self::http1::builder as http1_builder;
pub use self::http2::{Http2, Opening};
pub use self::io::{TargetIo, TlsRefusal};
pub use self::key::PoolKey;
use super::Error;
use crate::lifecycle::workers;

/// What bodies of requests must offer to be sent over pooled connections.
pub trait RequestBody: Body<Data = bytes::Bytes, Error: Into<BoxError>> + Send + Unpin + 'static {}
impl<B> RequestBody for B where B: Body<Data = bytes::Bytes, Error: Into<BoxError>> + Send + Unpin + 'static {}

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long and how many connections wait for their next request.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Common servers close idle connections after 60 s or 75 s; we go first.
    pub idle: Duration,
    /// For requests that must not be sent twice: a connection that was used this
    /// recently will not be closed by the server just now.
    pub idle_unrepeatable: Duration,
    /// Idle connections per target.
    pub max_idle: usize,
    /// How many workers keep idle connections apart.
    pub workers: NonZero<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(50),
            idle_unrepeatable: Duration::from_secs(3),
            max_idle: 256,
            workers: NonZero::<usize>::MIN,
        }
    }
}

/// Which pooled connections a request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// Any that is open: the request can be sent again if the server closes it just now.
    Any,
    /// Only one that the server will not be closing at this moment.
    Recent,
    /// A new connection, or one over HTTP/2 that others have opened after this one.
    Newer(Opening),
    /// A new connection.
    Never,
}

/// A connection for one request.
pub enum Lease<B: RequestBody> {
    Http1(Box<Http1<B>>),
    Http2(Http2<B>),
}

/// All connections of one process.
pub struct Pool<B: RequestBody> {
    origins: Mutex<HashMap<PoolKey, Weak<Origin<B>>>>,
    limits: Limits,
}

/// How often connections that nobody asked for are looked at.
const SWEEP: Duration = Duration::from_secs(5);

impl<B: RequestBody> Pool<B> {
    /// Starts the sweep, so this needs a runtime.
    pub fn new(limits: Limits) -> Arc<Self> {
        let pool = Arc::new(Self {
            origins: Mutex::default(),
            limits,
        });
        tokio::spawn(sweep_periodically(Arc::downgrade(&pool)));
        pool
    }

    /// The connections for `key`. They are closed when the last holder lets go.
    pub fn origin(&self, key: PoolKey, connector: Connector) -> Arc<Origin<B>> {
        let mut origins = lock(&self.origins);
        if let Some(origin) = origins.get(&key).and_then(Weak::upgrade) {
            return origin;
        }
        let origin = Arc::new(Origin::new(connector, self.limits.clone()));
        origins.insert(key, Arc::downgrade(&origin));
        origin
    }

    fn sweep(&self) {
        let mut living = Vec::new();
        lock(&self.origins).retain(|_key, origin| {
            origin.upgrade().is_some_and(|origin| {
                living.push(origin);
                true
            })
        });
        for origin in living {
            origin.sweep();
        }
    }

    /// Connections waiting for a request, for metrics.
    pub fn idle(&self) -> usize {
        lock(&self.origins)
            .values()
            .filter_map(Weak::upgrade)
            .map(|origin| origin.idle())
            .sum()
    }
}

async fn sweep_periodically<B: RequestBody>(pool: Weak<Pool<B>>) {
    let mut ticks = tokio::time::interval(SWEEP);
    loop {
        ticks.tick().await;
        let Some(pool) = pool.upgrade() else { return };
        pool.sweep();
    }
}

/// What one worker keeps.
struct Shelf<B: RequestBody> {
    /// The most recently used one last.
    #[expect(
        clippy::vec_box,
        reason = "connections are large and move in and out for every request"
    )]
    idle: Mutex<Vec<Box<Http1<B>>>>,
    /// How often this worker took what others keep.
    borrowed: AtomicUsize,
}

/// A connection of another worker saves a handshake, but costs wake-ups between threads with
/// every use. After so many uses a worker rather opens one of its own.
const BORROWED_MAX: usize = 64;

/// The connections to one target with one identity.
pub struct Origin<B: RequestBody> {
    connector: Connector,
    limits: Limits,
    shelves: Box<[Shelf<B>]>,
    http2: http2::Shared<B>,
    speaks: AtomicU8,
    /// Held while a connection is opened that others may be able to share.
    opening: tokio::sync::Mutex<()>,
}

const UNKNOWN: u8 = 0;
const HTTP1: u8 = 1;
const HTTP2: u8 = 2;

impl<B: RequestBody> Origin<B> {
    fn new(connector: Connector, limits: Limits) -> Self {
        let speaks = if connector.may_speak_http2() {
            UNKNOWN
        } else {
            HTTP1
        };
        Self {
            connector,
            shelves: (0..limits.workers.get()).map(|_| Shelf::new()).collect(),
            limits,
            http2: http2::Shared::new(),
            speaks: AtomicU8::new(speaks),
            opening: tokio::sync::Mutex::default(),
        }
    }

    /// A connection that is open already, without waiting.
    pub fn reuse(&self, reuse: Reuse) -> Option<Lease<B>> {
        match (reuse, self.speaks.load(Ordering::Relaxed)) {
            (Reuse::Newer(_) | Reuse::Never, _) => None,
            (_, HTTP2) => self.http2.take(reuse, self.limits.idle).map(Lease::Http2),
            _ => self.take_idle(reuse).map(Lease::Http1),
        }
    }

    /// A new connection, or a part of one that others have just opened.
    pub async fn open(&self, reuse: Reuse) -> Result<Lease<B>, Error> {
        if self.speaks_http1() {
            return self.connect().await;
        }
        // The time counts from here, however many wait before.
        let limit = self.connector.timeout();
        let opened = tokio::time::timeout(limit, self.open_in_turn(reuse)).await;
        match opened.map_err(|_elapsed| Error::TimedOut(limit))?? {
            Some(lease) => Ok(lease),
            None => self.connect().await,
        }
    }

    /// `None` if the target has turned out to speak HTTP/1 meanwhile: there is nothing to share then,
    /// and so nothing to wait for.
    async fn open_in_turn(&self, reuse: Reuse) -> Result<Option<Lease<B>>, Error> {
        let _alone = self.opening.lock().await;
        if self.speaks_http1() {
            return Ok(None);
        }
        match self.http2.take(reuse, self.limits.idle) {
            Some(part) => Ok(Some(Lease::Http2(part))),
            None => self.connect().await.map(Some),
        }
    }

    fn speaks_http1(&self) -> bool {
        self.speaks.load(Ordering::Relaxed) == HTTP1
    }

    /// A connection of the request's own over HTTP/1, for upgrades.
    pub async fn open_for_upgrade(&self) -> Result<TargetIo, Error> {
        self.connector.open_http1().await
    }

    async fn connect(&self) -> Result<Lease<B>, Error> {
        match self.connector.open().await? {
            Opened::Http1(io) => {
                self.speaks.store(HTTP1, Ordering::Relaxed);
                Ok(Lease::Http1(Box::new(Http1::handshake(io).await?)))
            }
            Opened::Http2(io) => {
                let part = self.http2.add(io).await?;
                self.speaks.store(HTTP2, Ordering::Relaxed);
                Ok(Lease::Http2(part))
            }
        }
    }

    /// One of this worker's own, or else, for a while, anyone's.
    fn take_idle(&self, reuse: Reuse) -> Option<Box<Http1<B>>> {
        let count = self.shelves.len();
        let own = workers::current() % count;
        let now = Instant::now();
        if let Some(connection) = self.take_idle_of(own, reuse, now) {
            return Some(connection);
        }
        let found =
            (own + 1..own + count).find_map(|worker| self.take_idle_of(worker % count, reuse, now))?;
        let borrowed = self.shelves[own].borrowed.fetch_add(1, Ordering::Relaxed);
        if borrowed % BORROWED_MAX == BORROWED_MAX - 1 {
            self.push(found);
            return None;
        }
        Some(found)
    }

    fn take_idle_of(&self, worker: usize, reuse: Reuse, now: Instant) -> Option<Box<Http1<B>>> {
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            let mut connection = lock(&self.shelves[worker].idle).pop()?;
            if reuse == Reuse::Recent && !connection.is_recent(now, &self.limits) {
                // All others have waited even longer; requests that can be repeated may have them.
                self.push(connection);
                return None;
            }
            if connection.is_usable(now, &self.limits, &mut cx) {
                return Some(connection);
            }
        }
    }

    /// Takes a connection back whose response has ended.
    pub fn park(&self, mut connection: Box<Http1<B>>) {
        connection.parked(Instant::now());
        self.push(connection);
    }

    /// Back to the worker whose connection it is.
    fn push(&self, connection: Box<Http1<B>>) {
        let count = self.shelves.len();
        let mut idle = lock(&self.shelves[connection.worker() % count].idle);
        if idle.len() < self.limits.max_idle.div_ceil(count) {
            idle.push(connection);
        }
    }

    fn idle(&self) -> usize {
        self.shelves.iter().map(|shelf| lock(&shelf.idle).len()).sum()
    }

    fn sweep(&self) {
        let mut cx = Context::from_waker(Waker::noop());
        let now = Instant::now();
        for shelf in &self.shelves {
            lock(&shelf.idle).retain_mut(|connection| connection.is_usable(now, &self.limits, &mut cx));
        }
        self.http2.sweep(now, self.limits.idle);
    }
}

impl<B: RequestBody> Shelf<B> {
    fn new() -> Self {
        Self {
            idle: Mutex::default(),
            borrowed: AtomicUsize::new(0),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
