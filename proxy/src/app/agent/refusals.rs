//! Connections that were refused: counted, logged without flooding the log, and remembered for
//! whoever asks why.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::time::Instant;
use tracing::warn;

use crate::accept::Exceeded;
use crate::resolve::directory::CrName;
use crate::resolve::scope::Refused;

/// Of refusals that are alike, a line at most so often.
const QUIET: Duration = Duration::from_secs(10);
/// So many that differ are told apart in that time; the others are counted only.
const TOLD_APART: usize = 1_000;
/// Looking which of so many are old takes a while, in which nobody else can be refused.
const CLEAR_UP: Duration = Duration::from_secs(1);
/// Lines kept for questions.
const REMEMBERED: usize = 200;

/// Where a connection was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum At {
    /// By the hook, before there was a connection.
    Connect,
    /// By a reset, right after it had come.
    Accept,
}

impl At {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Accept => "accept",
        }
    }
}

/// One refused connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Refusal {
    /// `None` where there was no connection.
    pub(super) conn_id: Option<u64>,
    /// `None` if the address belongs to no CR any more.
    pub(super) cr: Option<CrName>,
    /// A pod, or what is known instead.
    pub(super) caller: String,
    /// Source address where it was accepted, virtual IP where it was not; the port of neither
    /// tells refusals apart.
    pub(super) address: SocketAddr,
    pub(super) reason: Reason,
    pub(super) at: At,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Reason {
    /// The destination is not for the caller.
    Scope(Refused),
    /// Its virtual IP has no such port.
    Port,
    /// Only TCP is proxied.
    Udp,
    /// Too many connections are open.
    Limit(Exceeded),
    /// Two Services have the target port, and nothing says that the served one was meant.
    TargetPortOfTwo,
}

impl Reason {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Scope(refused) => refused.as_str(),
            Self::Port => "port",
            Self::Udp => "udp",
            Self::Limit(exceeded) => exceeded.as_str(),
            Self::TargetPortOfTwo => "target_port_of_two",
        }
    }
}

/// Refusals that are alike, one after the other.
#[derive(Debug, Clone)]
pub(super) struct Remembered {
    pub(super) refusal: Refusal,
    pub(super) last: Instant,
    pub(super) times: u64,
}

/// Clones share everything.
#[derive(Debug, Clone, Default)]
pub(super) struct RefusalLog(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    counted: Family<Labels, Counter>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When a line was written last, and how many were not since.
    told: HashMap<Alike, (Instant, u64)>,
    cleared_up: Option<Instant>,
    remembered: VecDeque<Remembered>,
    by_cr: HashMap<CrName, u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    reason: &'static str,
    at: &'static str,
}

/// What makes refusals alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Alike {
    cr: Option<CrName>,
    caller: String,
    reason: Reason,
    at: At,
}

impl RefusalLog {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "scope_refused",
            "Connections refused because the caller may not use the destination",
            self.0.counted.clone(),
        );
    }

    pub(super) fn add(&self, refusal: &Refusal) {
        if let Reason::Scope(refused) = refusal.reason {
            let reason = refused.as_str();
            let at = refusal.at.as_str();
            self.0.counted.get_or_create(&Labels { reason, at }).inc();
        }
        let mut state = self.state();
        if let Some(cr) = &refusal.cr {
            *state.by_cr.entry(cr.clone()).or_default() += 1;
        }
        let left_out = state.tell(refusal, Instant::now());
        state.remember(refusal.clone());
        drop(state);
        if let Some(left_out) = left_out {
            log(refusal, left_out);
        }
    }

    /// Of one CR, the newest first.
    pub(super) fn of(&self, cr: &CrName) -> Vec<Remembered> {
        let state = self.state();
        let all = state.remembered.iter().rev();
        all.filter(|one| one.refusal.cr.as_ref() == Some(cr))
            .cloned()
            .collect()
    }

    /// How many of one CR, since it is served.
    pub(super) fn count(&self, cr: &CrName) -> u64 {
        self.state().by_cr.get(cr).copied().unwrap_or_default()
    }

    /// The CR is not served any more.
    pub(super) fn forget(&self, cr: &CrName) {
        self.state().by_cr.remove(cr);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether a line is to be written, and how many were left out before.
    fn tell(&mut self, refusal: &Refusal, now: Instant) -> Option<u64> {
        let alike = refusal.alike();
        if let Some((told, left_out)) = self.told.get_mut(&alike) {
            if now - *told < QUIET {
                *left_out += 1;
                return None;
            }
            *told = now;
            return Some(std::mem::take(left_out));
        }
        if self.told.len() >= TOLD_APART {
            self.clear_up(now);
        }
        if self.told.len() >= TOLD_APART {
            return None;
        }
        self.told.insert(alike, (now, 0));
        Some(0)
    }

    fn clear_up(&mut self, now: Instant) {
        if self.cleared_up.is_some_and(|before| now - before < CLEAR_UP) {
            return;
        }
        self.cleared_up = Some(now);
        self.told.retain(|_, (told, _)| now - *told < QUIET);
    }

    fn remember(&mut self, refusal: Refusal) {
        let last = Instant::now();
        if let Some(before) = self.remembered.back_mut()
            && before.refusal.alike() == refusal.alike()
        {
            before.times += 1;
            before.last = last;
            return;
        }
        if self.remembered.len() == REMEMBERED {
            self.remembered.pop_front();
        }
        self.remembered.push_back(Remembered {
            refusal,
            last,
            times: 1,
        });
    }
}

impl Refusal {
    fn alike(&self) -> Alike {
        Alike {
            cr: self.cr.clone(),
            caller: self.caller.clone(),
            reason: self.reason,
            at: self.at,
        }
    }
}

fn log(refusal: &Refusal, left_out: u64) {
    let Refusal {
        conn_id,
        cr,
        caller,
        address,
        reason,
        at,
    } = refusal;
    warn!(
        conn_id,
        cr = cr.as_ref().map(tracing::field::display),
        caller,
        %address,
        reason = reason.as_str(),
        %at,
        left_out,
        "connection refused"
    );
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(caller: &str) -> Refusal {
        Refusal {
            conn_id: Some(7),
            cr: Some(CrName {
                namespace: "shop".into(),
                name: "my-dest".into(),
            }),
            caller: caller.into(),
            address: "10.0.0.1:4000".parse().unwrap(),
            reason: Reason::Scope(Refused::OtherNamespace),
            at: At::Accept,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_that_are_alike_are_a_line_now_and_then() {
        let mut state = State::default();
        let mut tell = |caller: &str| state.tell(&refusal(caller), Instant::now());
        assert_eq!(tell("bank/a"), Some(0));
        assert_eq!(tell("bank/a"), None);
        assert_eq!(tell("bank/b"), Some(0));
        assert_eq!(tell("bank/a"), None);
        tokio::time::advance(QUIET).await;
        assert_eq!(tell("bank/a"), Some(2));
        assert_eq!(tell("bank/a"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn many_callers_fill_neither_log_nor_memory() {
        let mut state = State::default();
        let lines = |state: &mut State| {
            let callers = 0..2 * TOLD_APART;
            callers
                .filter(|number| {
                    state
                        .tell(&refusal(&number.to_string()), Instant::now())
                        .is_some()
                })
                .count()
        };
        assert_eq!(lines(&mut state), TOLD_APART);
        assert_eq!(state.told.len(), TOLD_APART);
        tokio::time::advance(QUIET).await;
        assert_eq!(lines(&mut state), TOLD_APART);
        // None is too old yet when it is looked for the first time.
        tokio::time::advance(QUIET.saturating_sub(CLEAR_UP / 2)).await;
        let new = |state: &mut State| state.tell(&refusal("new"), Instant::now());
        assert_eq!(new(&mut state), None);
        tokio::time::advance(CLEAR_UP / 2).await;
        assert_eq!(new(&mut state), None, "all of them are looked at once a second");
        tokio::time::advance(CLEAR_UP / 2).await;
        assert_eq!(new(&mut state), Some(0));
        for number in 0..2 * REMEMBERED {
            state.remember(refusal(&number.to_string()));
        }
        assert_eq!(state.remembered.len(), REMEMBERED);
    }

    #[tokio::test]
    async fn they_are_counted_and_remembered_for_their_cr() {
        let log = RefusalLog::default();
        for caller in ["bank/a", "bank/a", "bank/b"] {
            log.add(&refusal(caller));
        }
        log.add(&Refusal {
            cr: None,
            ..refusal("bank/c")
        });
        let cr = refusal("").cr.unwrap();
        let told: Vec<_> = log
            .of(&cr)
            .into_iter()
            .map(|one| (one.refusal.caller, one.times))
            .collect();
        assert_eq!(told, [("bank/b".to_owned(), 1), ("bank/a".to_owned(), 2)]);
        assert_eq!(log.count(&cr), 3);
        log.forget(&cr);
        assert_eq!(log.count(&cr), 0);
        let labels = Labels {
            reason: "other_namespace",
            at: "accept",
        };
        assert_eq!(log.0.counted.get(&labels).unwrap().get(), 4);
    }
}
