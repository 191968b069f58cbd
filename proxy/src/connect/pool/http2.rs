//! HTTP/2 connections to one target: each takes many requests at once, and one more is opened when none has room.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::io::{TargetIo, TlsRefusal};
use super::{RequestBody, Reuse, lock};
use crate::connect::Error;

/// Windows large enough for 1 Gbit/s at 10 ms; memory per stream stays bounded.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Streams at once until the server has said how many it allows: the least that RFC 9113,
/// section 6.5.2, recommends to allow.
const STREAMS_UNTIL_TOLD: usize = 100;
/// Connections per target and identity. With what servers commonly allow, 100 streams each, that
/// is some thousands of requests at once; more of them wait for each other.
const MAX_CONNECTIONS: usize = 32;

/// Tells connections apart by when they were opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Opening(u64);

impl Opening {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A connection that many requests use at once. It ends with its last stream after the pool has let go.
struct Connection<B: RequestBody> {
    opening: Opening,
    sender: SendRequest<B>,
    refusal: TlsRefusal,
    streams: AtomicUsize,
    allowed: Arc<Allowed>,
    retired: AtomicBool,
}

/// How many streams the server allows. It says so before its first answer (RFC 9113, section 3.4).
struct Allowed {
    streams: AtomicUsize,
    answered: AtomicBool,
    first_answer: Notify,
}

/// One request's part of a connection, from before it is sent until its answer has ended.
pub struct Http2<B: RequestBody>(Arc<Connection<B>>);

impl<B: RequestBody> Http2<B> {
    /// For one request.
    pub fn sender(&self) -> SendRequest<B> {
        self.0.sender.clone()
    }

    /// The server ended the connection for a reason of TLS.
    pub fn refusal(&self) -> &TlsRefusal {
        &self.0.refusal
    }

    pub fn opening(&self) -> Opening {
        self.0.opening
    }

    /// The head of an answer has come.
    pub fn answered(&self) {
        let Allowed {
            answered,
            first_answer,
            ..
        } = &*self.0.allowed;
        if !answered.load(Ordering::Relaxed) {
            answered.store(true, Ordering::Relaxed);
            first_answer.notify_one();
        }
    }

    /// The target did not answer in time, and nothing tells whether the connection is still alive.
    /// What is under way goes on; new requests go elsewhere.
    pub fn retire(&self) {
        self.0.retired.store(true, Ordering::Relaxed);
    }
}

impl<B: RequestBody> Drop for Http2<B> {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<B: RequestBody> Connection<B> {
    async fn handshake(io: TargetIo, max_streams: usize) -> Result<Self, Error> {
        let refusal = io.refusal();
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .initial_max_send_streams(max_streams)
            .max_header_list_size(64 * 1024)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| Error::Io(std::io::Error::other(error)))?;
        let allowed = Arc::new(Allowed {
            streams: AtomicUsize::new(max_streams),
            answered: AtomicBool::new(false),
            first_answer: Notify::new(),
        });
        tokio::spawn(drive(connection, Arc::clone(&allowed)));
        Ok(Self {
            opening: Opening::next(),
            sender,
            refusal,
            streams: AtomicUsize::new(0),
            allowed,
            retired: AtomicBool::new(false),
        })
    }

    fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    fn max_streams(&self) -> usize {
        self.allowed.streams.load(Ordering::Relaxed)
    }

    fn has_room(&self) -> bool {
        self.streams() < self.max_streams()
    }

    fn is_open(&self) -> bool {
        !self.sender.is_closed() && !self.retired.load(Ordering::Relaxed)
    }
}

type Driver<B> = http2::Connection<TokioIo<TargetIo>, B, TokioExecutor>;

/// Moves requests to the connection. Notes what the server has said about their number with each,
/// and after the first answer.
async fn drive<B: RequestBody>(connection: Driver<B>, allowed: Arc<Allowed>) {
    let mut connection = pin!(connection);
    let mut first_answer = pin!(allowed.first_answer.notified().fuse());
    let ended = poll_fn(|cx| {
        let _it_only_wakes = first_answer.as_mut().poll(cx);
        let ended = connection.as_mut().poll(cx);
        let streams = connection.current_max_send_streams();
        allowed.streams.store(streams, Ordering::Relaxed);
        ended
    });
    if let Err(error) = ended.await {
        tracing::debug!(%error, "HTTP/2 connection to the target ended");
    }
}

/// Those that take requests.
pub(super) struct Shared<B: RequestBody>(Mutex<Vec<Entry<B>>>);

struct Entry<B: RequestBody> {
    connection: Arc<Connection<B>>,
    last_use: Instant,
}

impl<B: RequestBody> Shared<B> {
    pub(super) fn new() -> Self {
        Self(Mutex::default())
    }

    /// A part of one that has room, or, once there are as many as there may be, of the least busy.
    pub(super) fn take(&self, reuse: Reuse, idle: Duration) -> Option<Http2<B>> {
        let now = Instant::now();
        let mut entries = lock(&self.0);
        entries.retain(|entry| entry.is_usable(now, idle));
        let full = entries.len() >= MAX_CONNECTIONS;
        let mut allowed = entries.iter_mut().filter(|entry| match reuse {
            Reuse::Any | Reuse::Recent => true,
            Reuse::Newer(than) => entry.connection.opening > than,
            Reuse::Never => false,
        });
        let entry = if full {
            allowed.min_by_key(|entry| entry.connection.streams())
        } else {
            allowed.find(|entry| entry.connection.has_room())
        }?;
        entry.last_use = now;
        Some(entry.part())
    }

    /// Makes a connection of what speaks HTTP/2. The first part of it is the caller's. Until the
    /// server has told, as much is expected of it as of the one before.
    pub(super) async fn add(&self, io: TargetIo) -> Result<Http2<B>, Error> {
        let before = lock(&self.0).last().map(|entry| entry.connection.max_streams());
        let max_streams = before.unwrap_or(STREAMS_UNTIL_TOLD);
        let entry = Entry {
            connection: Arc::new(Connection::handshake(io, max_streams).await?),
            last_use: Instant::now(),
        };
        let part = entry.part();
        lock(&self.0).push(entry);
        Ok(part)
    }

    pub(super) fn sweep(&self, now: Instant, idle: Duration) {
        lock(&self.0).retain(|entry| entry.is_usable(now, idle));
    }
}

impl<B: RequestBody> Entry<B> {
    fn part(&self) -> Http2<B> {
        self.connection.streams.fetch_add(1, Ordering::Relaxed);
        Http2(Arc::clone(&self.connection))
    }

    fn is_usable(&self, now: Instant, idle: Duration) -> bool {
        self.connection.is_open() && now - self.last_use < idle
    }
}
