//! Step 6 of the data path: bytes both ways.

pub mod tcp;

mod block;

use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::TcpStream;
use tokio::time::Instant;

pub use crate::telemetry::connections::Direction;
use crate::telemetry::connections::{Entry, State};

/// One leg of a relayed connection.
pub trait Wire: AsyncRead + AsyncWrite + Unpin {
    /// An error that reading would not show yet, because what came before it is not read yet.
    fn pending_error(&self) -> Option<io::Error> {
        None
    }

    /// Resolves when the connection fails, for a side that is not read any more.
    fn watch_errors(&self) -> Option<ErrorWatch> {
        None
    }
}

/// Resolves with the error of a connection; holds a descriptor of its own until it is dropped.
pub type ErrorWatch = Pin<Box<dyn Future<Output = io::Error> + Send>>;

impl Wire for TcpStream {
    fn pending_error(&self) -> Option<io::Error> {
        self.take_error().ok().flatten()
    }

    fn watch_errors(&self) -> Option<ErrorWatch> {
        let twin = self.as_fd().try_clone_to_owned().ok()?;
        let socket = TcpStream::from_std(twin.into()).ok()?;
        Some(Box::pin(async move {
            match socket.ready(Interest::ERROR).await {
                Ok(_) => {
                    let pending = socket.pending_error();
                    pending.unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())
                }
                Err(error) => error,
            }
        }))
    }
}

impl Wire for tokio::io::DuplexStream {}

/// Is told what happens while bytes are relayed.
pub trait Observer {
    /// Bytes were passed on.
    fn moved(&self, direction: Direction, bytes: usize, now: Instant);

    /// The side that sends in this direction has ended it.
    fn ended(&self, direction: Direction);
}

impl Observer for Entry {
    fn moved(&self, direction: Direction, bytes: usize, now: Instant) {
        Entry::moved(self, direction, bytes, now);
    }

    fn ended(&self, direction: Direction) {
        self.set_state(match direction {
            Direction::FromApp => State::AppEnded,
            Direction::FromTarget => State::TargetEnded,
        });
    }
}

/// For those who do not want to know.
impl Observer for () {
    fn moved(&self, _: Direction, _: usize, _: Instant) {}

    fn ended(&self, _: Direction) {}
}
