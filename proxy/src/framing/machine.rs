//! Messages one after the other: head, body, next head.

use super::body::BodyScan;
use super::handle::{Expected, ResponseHandle};
use super::head::{Head, HeadScan};
use super::{Limits, Violation};

/// Interim responses before a final one; a server that sends more keeps a client busy for nothing.
const INTERIM_MAX: u8 = 32;

/// What to do with the bytes that follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Nothing is left, or the beginning of a head.
    More,
    /// Wait for what becomes of an offered upgrade.
    Hold,
    /// Refuse the message that begins there.
    Refuse(Violation),
    /// Break off the message whose body they belong to.
    Break(Violation),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Judged {
    /// Leading bytes that may be handed on.
    pub(super) accepted: usize,
    pub(super) then: Then,
}

pub(super) trait Machine {
    /// Judges what follows the bytes accepted so far.
    fn judge(&mut self, bytes: &[u8]) -> Judged;
}

#[derive(Debug)]
enum State {
    Head(HeadScan),
    Body(BodyScan),
    Hold,
    Transparent,
}

/// The state after some bytes, or the reason to stop.
type Next = Result<State, Then>;

#[derive(Debug)]
pub(super) struct Requests {
    limits: Limits,
    state: State,
    count: u64,
    /// The request whose body is being read offers an upgrade.
    offered: bool,
}

impl Requests {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: State::Head(HeadScan::request()),
            count: 0,
            offered: false,
        }
    }

    /// How many heads were accepted.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn in_body(&self) -> bool {
        matches!(self.state, State::Body(_))
    }

    pub(super) fn is_transparent(&self) -> bool {
        matches!(self.state, State::Transparent)
    }

    pub(super) fn become_transparent(&mut self) {
        self.state = State::Transparent;
    }

    /// The held bytes are requests.
    pub(super) fn resume(&mut self) {
        self.offered = false;
        self.state = State::Head(HeadScan::request());
    }

    fn after_head(&mut self, head: Head) -> State {
        self.count += 1;
        self.offered = head.offers_upgrade;
        match head.length {
            _ if head.chunked => State::Body(BodyScan::chunked(&self.limits)),
            Some(length @ 1..) => State::Body(BodyScan::Length(length)),
            _ => self.after_message(),
        }
    }

    fn after_message(&self) -> State {
        if self.offered {
            State::Hold
        } else {
            State::Head(HeadScan::request())
        }
    }
}

impl Machine for Requests {
    fn judge(&mut self, bytes: &[u8]) -> Judged {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            let stop = |accepted, then| Judged { accepted, then };
            match &mut self.state {
                State::Head(_) if rest.is_empty() => return stop(at, Then::More),
                State::Head(scan) => match scan.feed(rest, &self.limits) {
                    Ok(None) => return stop(at, Then::More),
                    Err(violation) => return stop(at, Then::Refuse(violation)),
                    Ok(Some(head)) => {
                        at += head.len;
                        self.state = self.after_head(head);
                    }
                },
                State::Body(body) => match feed_body(body, rest, &mut at) {
                    Some(then) => return stop(at, then),
                    None => self.state = self.after_message(),
                },
                State::Hold => return stop(at, Then::Hold),
                State::Transparent => return stop(bytes.len(), Then::More),
            }
        }
    }
}

/// Moves on through a body; nothing if it is over.
fn feed_body(body: &mut BodyScan, rest: &[u8], at: &mut usize) -> Option<Then> {
    match body.feed(rest) {
        Err((good, violation)) => {
            *at += good;
            Some(Then::Break(violation))
        }
        Ok(good) => {
            *at += good;
            (!body.is_over()).then_some(Then::More)
        }
    }
}

#[derive(Debug)]
pub(super) struct Responses {
    limits: Limits,
    state: State,
    interim: u8,
    handle: ResponseHandle,
}

impl Responses {
    pub(super) fn new(limits: Limits, handle: ResponseHandle) -> Self {
        Self {
            limits,
            state: State::Head(HeadScan::response()),
            interim: 0,
            handle,
        }
    }

    pub(super) fn is_transparent(&self) -> bool {
        matches!(self.state, State::Transparent | State::Body(BodyScan::UntilClose))
    }

    fn after_head(&mut self, head: Head, expected: Expected) -> Next {
        if head.status == 101 {
            self.handle.answered();
            let asked = expected == Expected::Upgrade;
            return if asked {
                Ok(State::Transparent)
            } else {
                Err(Then::Break(Violation::UnexpectedUpgrade))
            };
        }
        if head.status < 200 {
            self.interim += 1;
            let bearable = self.interim <= INTERIM_MAX;
            let next = State::Head(HeadScan::response());
            return if bearable {
                Ok(next)
            } else {
                Err(Then::Break(Violation::TooManyInterim))
            };
        }
        self.interim = 0;
        self.handle.answered();
        Ok(self.body_of(head, expected))
    }

    /// RFC 9112, section 6.3.
    fn body_of(&self, head: Head, expected: Expected) -> State {
        let none = expected == Expected::NoBody || matches!(head.status, 204 | 304);
        match head.length {
            _ if none => State::Head(HeadScan::response()),
            _ if head.chunked => State::Body(BodyScan::chunked(&self.limits)),
            Some(0) => State::Head(HeadScan::response()),
            Some(length) => State::Body(BodyScan::Length(length)),
            None => State::Body(BodyScan::UntilClose),
        }
    }
}

impl Machine for Responses {
    fn judge(&mut self, bytes: &[u8]) -> Judged {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            let stop = |accepted, then| Judged { accepted, then };
            match &mut self.state {
                State::Head(_) if rest.is_empty() => return stop(at, Then::More),
                State::Head(scan) => {
                    let Some(expected) = self.handle.expected() else {
                        return stop(at, Then::Break(Violation::Unsolicited));
                    };
                    match scan.feed(rest, &self.limits) {
                        Ok(None) => return stop(at, Then::More),
                        Err(violation) => return stop(at, Then::Break(violation)),
                        Ok(Some(head)) => match self.after_head(head, expected) {
                            Err(then) => return stop(at, then),
                            Ok(state) => {
                                at += head.len;
                                self.state = state;
                            }
                        },
                    }
                }
                State::Body(body) => match feed_body(body, rest, &mut at) {
                    Some(then) => return stop(at, then),
                    None => self.state = State::Head(HeadScan::response()),
                },
                State::Hold | State::Transparent => return stop(bytes.len(), Then::More),
            }
        }
    }
}
