//! What is open now: one entry per connection, for `/debug/connections`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// The open connections. Clones share one table.
#[derive(Debug, Clone, Default)]
pub struct Connections(Arc<Mutex<HashMap<u64, Arc<Entry>>>>);

/// What is known of a connection from its beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    pub id: u64,
    pub protocol: &'static str,
    /// `<namespace>/<name>` of the Destination CR, where there are such.
    pub cr: Option<String>,
    pub destination: String,
    pub source: SocketAddr,
    pub target: String,
}

/// One connection. The counters have one writer, the task of the connection.
#[derive(Debug)]
pub struct Entry {
    pub about: About,
    /// The destination that the last request selected, if it is another one.
    selected: ArcSwapOption<String>,
    opened: Instant,
    state: AtomicU8,
    /// Milliseconds after `opened` at which a byte was moved last.
    active: AtomicU64,
    from_app: AtomicU64,
    from_target: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum State {
    Dialling = 0,
    Open = 1,
    /// The application has ended its direction.
    AppEnded = 2,
    /// The target has ended its direction.
    TargetEnded = 3,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dialling => "dialling",
            Self::Open => "open",
            Self::AppEnded => "app-ended",
            Self::TargetEnded => "target-ended",
        }
    }
}

/// Which way a byte goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    FromApp,
    FromTarget,
}

/// Keeps an entry in the table until it is dropped.
#[derive(Debug)]
#[must_use = "dropping it removes the connection from the table"]
pub struct Listed {
    table: Connections,
    entry: Arc<Entry>,
}

/// How a connection looks at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    pub id: u64,
    pub protocol: Cow<'static, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cr: Option<String>,
    pub destination: String,
    pub source: SocketAddr,
    pub target: String,
    pub state: State,
    pub age_seconds: f64,
    pub idle_seconds: f64,
    /// None where nobody counts them.
    pub bytes_from_app: Option<u64>,
    pub bytes_from_target: Option<u64>,
}

/// The protocol whose connections lead to a target per request, and whose bytes nobody counts.
pub const HTTP: &str = "http";

impl Connections {
    /// Adds a connection that is about to be made.
    pub fn open(&self, about: About) -> Listed {
        let id = about.id;
        let entry = Arc::new(Entry {
            about,
            selected: ArcSwapOption::empty(),
            opened: Instant::now(),
            state: AtomicU8::new(State::Dialling as u8),
            active: AtomicU64::new(0),
            from_app: AtomicU64::new(0),
            from_target: AtomicU64::new(0),
        });
        self.table().insert(id, Arc::clone(&entry));
        Listed {
            table: self.clone(),
            entry,
        }
    }

    /// All open connections, the oldest first.
    pub fn snapshot(&self) -> Vec<Snapshot> {
        let entries: Vec<_> = self.table().values().cloned().collect();
        let now = Instant::now();
        let mut all: Vec<_> = entries.iter().map(|entry| entry.snapshot(now)).collect();
        all.sort_by_key(|connection| connection.id);
        all
    }

    pub fn len(&self) -> usize {
        self.table().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn table(&self) -> MutexGuard<'_, HashMap<u64, Arc<Entry>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// A request leads there. Behind a gateway, only requests know where.
    pub fn lead_to(&self, destination: &str) {
        let before = self.selected.load();
        let before = before.as_deref().unwrap_or(&self.about.destination);
        if before != destination {
            self.selected.store(Some(Arc::new(destination.to_owned())));
        }
    }

    /// Something happened, whatever it was.
    pub fn touch(&self) {
        self.moved(Direction::FromApp, 0, Instant::now());
    }

    /// Counts bytes that were passed on.
    pub fn moved(&self, direction: Direction, bytes: usize, now: Instant) {
        let counter = match direction {
            Direction::FromApp => &self.from_app,
            Direction::FromTarget => &self.from_target,
        };
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
        self.active
            .store(millis(now.duration_since(self.opened)), Ordering::Relaxed);
    }

    pub fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    pub fn bytes(&self, direction: Direction) -> u64 {
        match direction {
            Direction::FromApp => self.from_app.load(Ordering::Relaxed),
            Direction::FromTarget => self.from_target.load(Ordering::Relaxed),
        }
    }

    pub fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// When a byte was moved last, or else the connection was opened.
    pub fn last_active(&self) -> Instant {
        self.opened + Duration::from_millis(self.active.load(Ordering::Relaxed))
    }

    fn counted(&self, direction: Direction) -> Option<u64> {
        (self.about.protocol != HTTP).then(|| self.bytes(direction))
    }

    fn state(&self) -> State {
        match self.state.load(Ordering::Relaxed) {
            0 => State::Dialling,
            2 => State::AppEnded,
            3 => State::TargetEnded,
            _ => State::Open,
        }
    }

    fn snapshot(&self, now: Instant) -> Snapshot {
        let About {
            id,
            protocol,
            cr,
            destination,
            source,
            target,
        } = self.about.clone();
        let selected = self.selected.load();
        Snapshot {
            id,
            protocol: protocol.into(),
            cr,
            destination: selected.as_deref().cloned().unwrap_or(destination),
            source,
            target,
            state: self.state(),
            age_seconds: now.duration_since(self.opened).as_secs_f64(),
            idle_seconds: now.duration_since(self.last_active()).as_secs_f64(),
            bytes_from_app: self.counted(Direction::FromApp),
            bytes_from_target: self.counted(Direction::FromTarget),
        }
    }
}

impl Listed {
    pub fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.table.table().remove(&self.entry.about.id);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(protocol: &'static str) -> About {
        About {
            id: 7,
            protocol,
            cr: Some("shop/my-db".into()),
            destination: "db".into(),
            source: SocketAddr::from(([127, 0, 0, 1], 4000)),
            target: "db.example:5432".into(),
        }
    }

    #[tokio::test]
    async fn a_connection_behind_a_gateway_shows_where_its_last_request_went() {
        let connections = Connections::default();
        let listed = connections.open(about(HTTP));
        let shown = || connections.snapshot()[0].destination.clone();
        for (leads_to, shows) in [("db", "db"), ("one", "one"), ("two", "two"), ("db", "db")] {
            listed.entry().lead_to(leads_to);
            assert_eq!(shown(), shows);
        }
        assert_eq!(connections.snapshot()[0].cr.as_deref(), Some("shop/my-db"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_connection_is_listed_until_it_ends() {
        let connections = Connections::default();
        let listed = connections.open(about("tcp"));
        tokio::time::advance(Duration::from_secs(2)).await;
        listed.entry().moved(Direction::FromApp, 5, Instant::now());
        listed.entry().set_state(State::Open);
        tokio::time::advance(Duration::from_secs(3)).await;
        let all = connections.snapshot();
        assert_eq!(
            (all.len(), all[0].bytes_from_app, all[0].state),
            (1, Some(5), State::Open)
        );
        assert!((all[0].age_seconds - 5.0).abs() < 0.1, "{all:?}");
        assert!((all[0].idle_seconds - 3.0).abs() < 0.1, "{all:?}");
        drop(listed);
        assert!(connections.is_empty());
    }
}
