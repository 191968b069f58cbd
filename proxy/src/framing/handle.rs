//! What a guard, which lives inside hyper's connection, and the service share.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use futures_util::task::AtomicWaker;
use http::Method;

use super::Violation;

/// The service's end of a [`RequestGuard`](super::RequestGuard).
#[derive(Debug, Clone)]
pub struct RequestHandle {
    shared: Arc<Requests>,
}

#[derive(Debug, Default)]
struct Requests {
    /// Requests that the service has begun.
    begun: AtomicU64,
    /// Requests whose response has ended.
    finished: AtomicU64,
    /// The number of the request that stands for a refused one, counted from 1.
    refused: OnceLock<(u64, Violation)>,
    /// The number of the last request that was upgraded.
    upgraded: AtomicU64,
    waker: AtomicWaker,
}

/// What the service decided about an offered upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    Open,
    Upgraded,
    NotUpgraded,
}

impl RequestHandle {
    pub(super) fn new() -> Self {
        Self {
            shared: Arc::default(),
        }
    }

    /// To be called once for every request that hyper hands to the service, in that order.
    pub fn begin(&self) -> Turn {
        let number = self.shared.begun.fetch_add(1, Ordering::Relaxed) + 1;
        let refused = self.shared.refused.get();
        let violation = refused
            .filter(|(at, _)| *at == number)
            .map(|(_, violation)| *violation);
        Turn {
            handle: self.clone(),
            number,
            violation,
        }
    }

    pub(super) fn finished(&self) -> u64 {
        self.shared.finished.load(Ordering::Acquire)
    }

    pub(super) fn refuse(&self, number: u64, violation: Violation) {
        // Later violations cannot be reached, as nothing is delivered after the first.
        let _ = self.shared.refused.set((number, violation));
    }

    pub(super) fn decision(&self, number: u64) -> Decision {
        if self.shared.upgraded.load(Ordering::Acquire) == number {
            return Decision::Upgraded;
        }
        if self.finished() >= number {
            return Decision::NotUpgraded;
        }
        Decision::Open
    }

    pub(super) fn register(&self, waker: &Waker) {
        self.shared.waker.register(waker);
    }
}

/// One request's turn on its connection: keep it until the body of the response has ended (in the body itself).
#[derive(Debug)]
#[must_use = "dropping it says that the response has ended"]
pub struct Turn {
    handle: RequestHandle,
    number: u64,
    violation: Option<Violation>,
}

impl Turn {
    /// What was wrong with the request that this one stands for. Answer with an error and `Connection: close`.
    pub fn violation(&self) -> Option<Violation> {
        self.violation
    }

    /// The request offered an upgrade ([`offers_upgrade`](super::offers_upgrade)) and is answered with 101: all
    /// that follows passes unseen. Call it before the response is returned to hyper. Without this call, what
    /// follows the end of the turn are requests again.
    pub fn upgraded(&self) {
        let shared = &self.handle.shared;
        shared.upgraded.store(self.number, Ordering::Release);
        shared.waker.wake();
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.handle.shared.finished.fetch_add(1, Ordering::Release);
        // Nobody waits in the common case, and then this is two atomic operations.
        self.handle.shared.waker.wake();
    }
}

/// What the next response answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Expected {
    /// A request whose response may have a body.
    Body = 1,
    /// A HEAD request.
    NoBody = 2,
    /// A request that offers an upgrade, which may be answered with 101.
    Upgrade = 3,
}

impl Expected {
    /// What follows from a request's method and from whether it offers an upgrade.
    pub fn of(method: &Method, offers_upgrade: bool) -> Self {
        match (method, offers_upgrade) {
            (&Method::HEAD, _) => Self::NoBody,
            (_, true) => Self::Upgrade,
            _ => Self::Body,
        }
    }
}

/// The client's end of a [`ResponseGuard`](super::ResponseGuard).
#[derive(Debug, Clone)]
pub struct ResponseHandle {
    shared: Arc<Responses>,
}

#[derive(Debug, Default)]
struct Responses {
    expected: AtomicU8,
    violation: OnceLock<Violation>,
}

impl ResponseHandle {
    pub(super) fn new() -> Self {
        Self {
            shared: Arc::default(),
        }
    }

    /// To be called before a request is handed to hyper's client: one response is expected.
    pub fn expect(&self, expected: Expected) {
        self.shared.expected.store(expected as u8, Ordering::Release);
    }

    /// The connection broke the rules, also by bytes that nobody asked for. It must not be used again.
    pub fn violation(&self) -> Option<Violation> {
        self.shared.violation.get().copied()
    }

    pub(super) fn expected(&self) -> Option<Expected> {
        match self.shared.expected.load(Ordering::Acquire) {
            1 => Some(Expected::Body),
            2 => Some(Expected::NoBody),
            3 => Some(Expected::Upgrade),
            _ => None,
        }
    }

    pub(super) fn answered(&self) {
        self.shared.expected.store(0, Ordering::Release);
    }

    pub(super) fn poison(&self, violation: Violation) {
        let _ = self.shared.violation.set(violation);
    }
}
