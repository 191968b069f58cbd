//! One token per key: fetched once however many wait, renewed ahead of its end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;
use http::HeaderValue;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::metrics::CacheCounts;
use super::{Error, InvalidToken};

/// A token is not used in the last part of its life, lest it ends on the way.
const MARGIN: Duration = Duration::from_secs(30);
/// One token that the target refuses must not make every request fetch another.
const BETWEEN_REJECTIONS: Duration = Duration::from_secs(10);
/// A failure is remembered this long while requests wait for a token …
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// … and this long while the old token is still good.
const LONGEST_BACKGROUND_PAUSE: Duration = Duration::from_mins(1);
/// `Retry-After` is honoured up to here.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(1);

/// A token as the token service sent it.
pub(super) struct Fetched {
    /// `<type> <token>`
    pub(super) header: HeaderValue,
    pub(super) life: Duration,
}

/// Fetches a token; called again for every renewal.
pub(super) type Fetch = Box<dyn Fn() -> BoxFuture<'static, Result<Fetched, Error>> + Send + Sync>;

/// A token with its times.
pub(super) struct Token {
    pub(super) header: HeaderValue,
    /// Not used from here on.
    pub(super) expires: Instant,
    pub(super) generation: u64,
    renew: Instant,
}

impl Token {
    fn new(fetched: Fetched, generation: u64) -> Self {
        let (now, life) = (Instant::now(), fetched.life);
        let usable = life.saturating_sub(MARGIN.min(life / 10));
        // Up to 5 % later, so that many nodes do not renew all at once.
        let renew = life.mul_f64(0.8 + 0.05 * fastrand::f64());
        Self {
            header: fetched.header,
            expires: now + usable,
            generation,
            renew: now + renew,
        }
    }
}

/// The token of one key.
pub(super) struct Entry {
    /// For logs: the destination's name.
    name: String,
    fetch: Fetch,
    token: ArcSwapOption<Token>,
    state: Mutex<State>,
    counts: CacheCounts,
}

#[derive(Default)]
struct State {
    /// The call that is under way.
    flight: Option<Flight>,
    failure: Option<Failure>,
    last_rejection: Option<Instant>,
}

type Flight = watch::Receiver<Option<Outcome>>;
type Outcome = Result<Arc<Token>, Error>;

enum Joined {
    /// The call has ended well meanwhile.
    Landed(Arc<Token>),
    UnderWay(Flight),
}

/// The last call failed.
struct Failure {
    error: Error,
    /// How many calls failed in a row, less one.
    repeats: u32,
    at: Instant,
}

impl Failure {
    fn ends(&self, longest: Duration) -> Instant {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.repeats.min(16)).min(longest);
        let asked = self
            .error
            .retry_after()
            .unwrap_or_default()
            .min(LONGEST_RETRY_AFTER);
        self.at + pause.max(asked)
    }
}

impl Entry {
    pub(super) fn new(name: String, fetch: Fetch, counts: CacheCounts) -> Arc<Self> {
        Arc::new(Self {
            name,
            fetch,
            token: ArcSwapOption::empty(),
            state: Mutex::default(),
            counts,
        })
    }

    /// The token, if it is good now. Starts its renewal when that is due.
    pub(super) fn ready(self: &Arc<Self>) -> Option<Arc<Token>> {
        let token = self.token.load();
        let token = token.as_ref()?;
        let now = Instant::now();
        if now >= token.expires {
            return None;
        }
        if now >= token.renew {
            self.renew(now);
        }
        self.counts.hits.inc();
        Some(Arc::clone(token))
    }

    /// The token, waited for if need be. All who wait share one call, which goes on
    /// when they go away.
    pub(super) async fn token(self: &Arc<Self>) -> Outcome {
        if let Some(token) = self.ready() {
            return Ok(token);
        }
        self.counts.misses.inc();
        let mut flight = match self.join()? {
            Joined::Landed(token) => return Ok(token),
            Joined::UnderWay(flight) => flight,
        };
        match flight.wait_for(Option::is_some).await {
            Ok(outcome) => match outcome.clone().expect("waited for it") {
                Ok(token) if token.expires <= Instant::now() => {
                    Err(Error::InvalidTokenResponse(InvalidToken::Expired))
                }
                outcome => outcome,
            },
            Err(_closed) => Err(Error::Cancelled),
        }
    }

    /// The call under way, or a new one unless the last failure is too fresh.
    fn join(self: &Arc<Self>) -> Result<Joined, Error> {
        let mut state = self.state();
        // It may have come between the look and the lock.
        if let Some(token) = self.current() {
            return Ok(Joined::Landed(token));
        }
        if let Some(flight) = state.running() {
            return Ok(Joined::UnderWay(flight));
        }
        match &state.failure {
            Some(failure) if Instant::now() < failure.ends(LONGEST_PAUSE) => Err(failure.error.clone()),
            _ => Ok(Joined::UnderWay(self.start(&mut state))),
        }
    }

    /// Drops the token of that generation, at most once per 10 s.
    pub(super) fn rejected(&self, generation: u64) {
        let mut state = self.state();
        let now = Instant::now();
        let too_soon = state
            .last_rejection
            .is_some_and(|last| now < last + BETWEEN_REJECTIONS);
        let current = self.token.load().as_ref().map(|token| token.generation);
        if too_soon || current != Some(generation) {
            return;
        }
        state.last_rejection = Some(now);
        self.token.store(None);
        debug!(
            destination = self.name,
            "the target refused the token, which is dropped"
        );
    }

    fn current(&self) -> Option<Arc<Token>> {
        self.token
            .load_full()
            .filter(|token| Instant::now() < token.expires)
    }

    fn renew(self: &Arc<Self>, now: Instant) {
        let mut state = self.state();
        let paused = state
            .failure
            .as_ref()
            .is_some_and(|failure| now < failure.ends(LONGEST_BACKGROUND_PAUSE));
        let renewed = self.token.load().as_ref().is_some_and(|token| now < token.renew);
        if !paused && !renewed && state.running().is_none() {
            self.counts.renewals.inc();
            self.start(&mut state);
        }
    }

    /// In a task of its own: whoever waits may go away.
    fn start(self: &Arc<Self>, state: &mut State) -> Flight {
        let (result, flight) = watch::channel(None);
        state.flight = Some(flight.clone());
        let entry = Arc::clone(self);
        tokio::spawn(async move {
            let outcome = (entry.fetch)().await;
            result.send_replace(Some(entry.land(outcome)));
        });
        flight
    }

    fn land(&self, outcome: Result<Fetched, Error>) -> Outcome {
        static GENERATION: AtomicU64 = AtomicU64::new(0);
        let mut state = self.state();
        state.flight = None;
        match outcome {
            Ok(fetched) => {
                debug!(destination = self.name, life = ?fetched.life, "token fetched");
                let token = Arc::new(Token::new(fetched, GENERATION.fetch_add(1, Ordering::Relaxed)));
                self.token.store(Some(Arc::clone(&token)));
                state.failure = None;
                Ok(token)
            }
            Err(error) => {
                warn!(destination = self.name, %error, "no token");
                let repeats = state
                    .failure
                    .as_ref()
                    .map_or(0, |failure| failure.repeats.saturating_add(1));
                state.failure = Some(Failure {
                    error: error.clone(),
                    repeats,
                    at: Instant::now(),
                });
                Err(error)
            }
        }
    }

    /// Every change under the lock is complete at any time, so a panic leaves nothing broken.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// `None` as well if the task of the call was lost.
    fn running(&self) -> Option<Flight> {
        self.flight.clone().filter(|flight| flight.has_changed().is_ok())
    }
}

#[cfg(test)]
mod tests;
