//! Bytes between two connections, with each end passed on as it happened.

mod lane;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use self::lane::Lane;
use super::{Direction, ErrorWatch, Observer, Wire};

/// While one side takes no bytes, how often the other is asked whether it is still there.
const STALL_CHECK: Duration = Duration::from_secs(5);

/// A side that has ended is not read any more, so a reset that follows needs a watch of its own.
/// Most connections end on both sides within this time and do without it.
const WATCH_DELAY: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// After one side has ended, how long the other may stay silent.
    pub half_close: Duration,
    /// How long both may stay silent.
    pub idle: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            half_close: Duration::from_mins(5),
            idle: None,
        }
    }
}

/// How a relayed connection ended.
#[derive(Debug)]
pub enum End {
    /// Both sides ended their direction, and all bytes were passed on.
    Closed,
    /// One side was reset or lost; the other should see a reset too.
    Broken { side: Side, error: io::Error },
    /// One side had ended, and the other was silent for too long.
    HalfCloseTimeout,
    /// Both sides were silent for too long.
    IdleTimeout,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    App,
    Target,
}

/// Passes bytes both ways until both directions have ended.
///
/// # Guarantees
///
/// - The end of one direction is passed on as such, and the other goes on.
/// - Not more than 256 KiB per direction are read ahead.
/// - An error is returned as soon as it is known; what the caller does with both sides then
///   (a reset, see [`accept::reset`](crate::accept::reset)) is what the other side sees.
pub async fn relay<A: Wire, T: Wire>(
    app: &mut A,
    target: &mut T,
    limits: Limits,
    observer: &impl Observer,
) -> End {
    let mut relay = Relay {
        app,
        target,
        limits,
        observer,
        up: Lane::new(Direction::FromApp),
        down: Lane::new(Direction::FromTarget),
        active: Instant::now(),
        timer: None,
        watch: None,
        down_first: false,
    };
    poll_fn(|cx| relay.poll(cx)).await
}

struct Relay<'a, A, T, O> {
    app: &'a mut A,
    target: &'a mut T,
    limits: Limits,
    observer: &'a O,
    up: Lane,
    down: Lane,
    /// When a byte was moved last, or a side ended.
    active: Instant,
    /// Only there when something has a limit; moved on lazily, when it fires.
    timer: Option<Pin<Box<Sleep>>>,
    /// On the side that has ended.
    watch: Option<(Side, ErrorWatch)>,
    /// The lanes take turns in being first: one alone could use up what the task may do in one go.
    down_first: bool,
}

impl<A: Wire, T: Wire, O: Observer> Relay<'_, A, T, O> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.down_first = !self.down_first;
        // After a failure of one lane the other still passes on what has arrived: a server may answer
        // and reset in one go.
        let (up, down) = if self.down_first {
            let down = self.poll_down(cx);
            (self.poll_up(cx), down)
        } else {
            (self.poll_up(cx), self.poll_down(cx))
        };
        match (up, down) {
            (Err(end), _) | (_, Err(end)) => return Poll::Ready(end),
            (Ok(false), Ok(false)) => {}
            (Ok(_), Ok(_)) => self.active = Instant::now(),
        }
        if self.up.is_done() && self.down.is_done() {
            return Poll::Ready(End::Closed);
        }
        if let Some((side, watch)) = &mut self.watch
            && let Poll::Ready(error) = watch.as_mut().poll(cx)
        {
            return Poll::Ready(End::Broken { side: *side, error });
        }
        self.poll_timer(cx)
    }

    fn poll_up(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        self.up
            .poll(cx, self.app, self.target, self.observer)
            .map_err(|failure| failure.end(Side::App, Side::Target))
    }

    fn poll_down(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        self.down
            .poll(cx, self.target, self.app, self.observer)
            .map_err(|failure| failure.end(Side::Target, Side::App))
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        while let Some(deadline) = self.deadline() {
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            if deadline < timer.deadline() {
                timer.as_mut().reset(deadline);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.timer = None;
            if let Some(end) = self.expired(Instant::now()).or_else(|| self.pending_error()) {
                return Poll::Ready(end);
            }
            self.start_watch(cx);
        }
        Poll::Pending
    }

    fn deadline(&self) -> Option<Instant> {
        let silence = self.silence().map(|(limit, _)| self.active + limit);
        let stalled = self.up.is_stalled() || self.down.is_stalled();
        let unwatched = self.watch.is_none() && self.half_closed().is_some();
        let check = unwatched
            .then_some(WATCH_DELAY)
            .or(stalled.then_some(STALL_CHECK));
        silence
            .into_iter()
            .chain(check.map(|delay| Instant::now() + delay))
            .min()
    }

    /// The side that has ended, while the other goes on.
    fn half_closed(&self) -> Option<Side> {
        match (self.up.has_ended(), self.down.has_ended()) {
            (true, false) => Some(Side::App),
            (false, true) => Some(Side::Target),
            _ => None,
        }
    }

    fn start_watch(&mut self, cx: &mut Context<'_>) {
        if let Some(side) = self.half_closed().filter(|_| self.watch.is_none()) {
            let watch = match side {
                Side::App => self.app.watch_errors(),
                Side::Target => self.target.watch_errors(),
            };
            // Where errors cannot be watched, there is nothing to try again.
            self.watch = Some((side, watch.unwrap_or_else(|| Box::pin(std::future::pending()))));
            // It must be polled once to be woken.
            cx.waker().wake_by_ref();
        }
    }

    /// The limit of silence that holds now, and what passing it means.
    fn silence(&self) -> Option<(Duration, End)> {
        let half_close = (self.up.has_ended() || self.down.has_ended())
            .then_some((self.limits.half_close, End::HalfCloseTimeout));
        let idle = self.limits.idle.map(|limit| (limit, End::IdleTimeout));
        half_close.into_iter().chain(idle).min_by_key(|(limit, _)| *limit)
    }

    fn expired(&self, now: Instant) -> Option<End> {
        self.silence()
            .filter(|(limit, _)| now >= self.active + *limit)
            .map(|(_, end)| end)
    }

    fn pending_error(&self) -> Option<End> {
        let of_app = self.app.pending_error().map(|error| (Side::App, error));
        let pending = of_app.or_else(|| Some((Side::Target, self.target.pending_error()?)));
        pending.map(|(side, error)| End::Broken { side, error })
    }
}

#[cfg(test)]
mod tests;
