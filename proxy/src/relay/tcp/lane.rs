//! One direction of a relayed connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::ReadBuf;
use tokio::time::Instant;

use super::{End, Side};
use crate::relay::block::{self, Rest};
use crate::relay::{Direction, Observer, Wire};

pub(super) struct Lane {
    direction: Direction,
    state: State,
    /// Bytes may wait in a buffer of the writer, as TLS has one.
    unflushed: bool,
}

enum State {
    Reading,
    /// The writer did not take all bytes; nothing is read until it has.
    Stalled(Rest),
    /// The reader has ended; the writer is told.
    Ending,
    Done,
}

/// Which end of the lane failed.
pub(super) enum Failure {
    Read(io::Error),
    Write(io::Error),
}

impl Failure {
    pub(super) fn end(self, reader: Side, writer: Side) -> End {
        match self {
            Self::Read(error) => End::Broken { side: reader, error },
            Self::Write(error) => End::Broken { side: writer, error },
        }
    }
}

impl Lane {
    pub(super) fn new(direction: Direction) -> Self {
        Self {
            direction,
            state: State::Reading,
            unflushed: false,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state, State::Ending | State::Done)
    }

    pub(super) fn is_stalled(&self) -> bool {
        matches!(self.state, State::Stalled(_))
    }

    /// Goes on as far as possible; true when anything happened.
    pub(super) fn poll<R: Wire, W: Wire>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        observer: &impl Observer,
    ) -> Result<bool, Failure> {
        let mut moved = false;
        loop {
            let step = match &mut self.state {
                State::Reading => self.poll_read(cx, reader, writer, observer)?,
                State::Stalled(_) => self.poll_rest(cx, writer, observer)?,
                State::Ending => self.poll_end(cx, writer)?,
                State::Done => return Ok(moved),
            };
            if step.is_pending() {
                return Ok(moved);
            }
            moved = true;
        }
    }

    fn poll_read<R: Wire, W: Wire>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        observer: &impl Observer,
    ) -> Result<Poll<()>, Failure> {
        let mut memory = block::take();
        let mut buffer = ReadBuf::new(&mut memory);
        let polled = Pin::new(reader).poll_read(cx, &mut buffer);
        let read = buffer.filled().len();
        if let Poll::Ready(Ok(())) = polled
            && read > 0
        {
            let written = self.poll_write(cx, writer, &memory[..read], observer)?;
            if written < read {
                self.state = State::Stalled(Rest::new(memory, written..read));
            } else {
                block::give_back(memory);
            }
            return Ok(Poll::Ready(()));
        }
        block::give_back(memory);
        match polled {
            Poll::Pending => self.poll_flush(cx, writer),
            Poll::Ready(Err(error)) => Err(Failure::Read(error)),
            Poll::Ready(Ok(())) => {
                observer.ended(self.direction);
                self.state = State::Ending;
                Ok(Poll::Ready(()))
            }
        }
    }

    fn poll_rest<W: Wire>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
        observer: &impl Observer,
    ) -> Result<Poll<()>, Failure> {
        let State::Stalled(mut rest) = std::mem::replace(&mut self.state, State::Reading) else {
            return Ok(Poll::Ready(()));
        };
        let written = self.poll_write(cx, writer, rest.bytes(), observer)?;
        if rest.advance(written) {
            rest.recycle();
            return Ok(Poll::Ready(()));
        }
        self.state = State::Stalled(rest);
        Ok(if written > 0 {
            Poll::Ready(())
        } else {
            Poll::Pending
        })
    }

    /// Writes what the writer takes, and registers for the rest.
    fn poll_write<W: Wire>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
        bytes: &[u8],
        observer: &impl Observer,
    ) -> Result<usize, Failure> {
        let mut written = 0;
        while written < bytes.len() {
            match Pin::new(&mut *writer).poll_write(cx, &bytes[written..]) {
                Poll::Ready(Ok(0)) => return Err(Failure::Write(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(taken)) => written += taken,
                Poll::Ready(Err(error)) => return Err(Failure::Write(error)),
                Poll::Pending => break,
            }
        }
        if written > 0 {
            self.unflushed = true;
            observer.moved(self.direction, written, Instant::now());
        }
        Ok(written)
    }

    /// Nothing can be read now: what was written must not wait for more.
    fn poll_flush<W: Wire>(&mut self, cx: &mut Context<'_>, writer: &mut W) -> Result<Poll<()>, Failure> {
        if self.unflushed
            && let Poll::Ready(flushed) = Pin::new(writer).poll_flush(cx)
        {
            flushed.map_err(Failure::Write)?;
            self.unflushed = false;
        }
        Ok(Poll::Pending)
    }

    fn poll_end<W: Wire>(&mut self, cx: &mut Context<'_>, writer: &mut W) -> Result<Poll<()>, Failure> {
        match Pin::new(writer).poll_shutdown(cx) {
            Poll::Pending => Ok(Poll::Pending),
            // The writer's peer has closed both directions at the same moment.
            Poll::Ready(Err(error)) if error.kind() != io::ErrorKind::NotConnected => {
                Err(Failure::Write(error))
            }
            Poll::Ready(_) => {
                self.state = State::Done;
                Ok(Poll::Ready(()))
            }
        }
    }
}
