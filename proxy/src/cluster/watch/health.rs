//! How watches are, for readiness, metrics and the status page.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric as _, LabelValueEncoder,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use crate::cluster::Error;
use crate::lifecycle::readiness::{Latch, Readiness};

/// So long must access be denied before it counts as more than a change of roles under way.
const DENIED_FOR: Duration = Duration::from_secs(30);

/// How often readiness is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// All watches of a process. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Watches(Arc<All>);

#[derive(Debug, Default)]
struct All {
    /// Those whose tasks are still there.
    healths: Mutex<Vec<Weak<One>>>,
    errors: Family<ErrorLabels, Counter>,
}

/// How one watch is. Clones tell of the same.
#[derive(Debug, Clone)]
pub struct Health(Arc<One>);

#[derive(Debug)]
struct One {
    resource: &'static str,
    errors: Family<ErrorLabels, Counter>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    synced: bool,
    answered: bool,
    /// The last event, bookmark or page of a list; before the first one, the start. Not the begin
    /// of a watch, which says nothing of what is watched.
    heard: Instant,
    /// The last refusal: an answer that says it is up to the request.
    refused: Option<Instant>,
    denied_since: Option<Instant>,
    /// By 403 alone: 401 says that nobody knows who asks, which is no answer to what was asked.
    forbidden_since: Option<Instant>,
    /// It is done without, since access is denied.
    dispensed: bool,
    /// The last answer was none that is understood.
    not_understood: bool,
    /// Since it was last heard of.
    error: Option<String>,
}

impl State {
    fn is_answered(&mut self) {
        self.answered = true;
        self.denied_since = None;
        self.forbidden_since = None;
        self.dispensed = false;
        self.error = None;
    }

    fn is_denied(&self) -> bool {
        is_lasting(self.denied_since)
    }

    fn is_forbidden(&self) -> bool {
        is_lasting(self.forbidden_since)
    }
}

/// For so long that it is no change of roles under way.
fn is_lasting(since: Option<Instant>) -> bool {
    since.is_some_and(|since| since.elapsed() >= DENIED_FOR)
}

/// A watch that cannot be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// Its first list is not complete.
    NotSynced,
    /// The API server keeps answering 401 or 403.
    Denied,
    Silent,
}

/// One line of a status page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub resource: &'static str,
    pub synced: bool,
    /// Whether the API server has ever answered, if only that it cannot.
    pub answered: bool,
    /// Whether the last answer was 401 or 403, and somebody needs what is watched.
    pub denied: bool,
    /// Whether it is done without, since access is denied.
    pub dispensed: bool,
    pub since_event: Duration,
    /// The same, where a refusal counts as well: whoever gives it is there, and works.
    pub since_answer: Duration,
    pub error: Option<String>,
}

/// What went wrong, for metrics: few values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Code {
    Status(u16),
    Timeout,
    /// Nothing was heard for long.
    Idle,
    /// The answer is not what it should be.
    Decode,
    /// No connection, or it broke.
    Connection,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    resource: &'static str,
    code: Code,
}

impl Code {
    pub(super) fn of(error: &Error) -> Self {
        match error {
            Error::Timeout(_) => Self::Timeout,
            Error::Request(error) => match &**error {
                kube::Error::Api(status) => Self::Status(status.code),
                kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => Self::Decode,
                _ => Self::Connection,
            },
        }
    }

    fn is_answer(self) -> bool {
        matches!(self, Self::Status(_) | Self::Decode)
    }

    fn refuses(self) -> bool {
        matches!(self, Self::Status(400..=499))
    }

    fn denies(self) -> bool {
        matches!(self, Self::Status(401 | 403))
    }

    fn forbids(self) -> bool {
        matches!(self, Self::Status(403))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(code) => write!(f, "{code}"),
            Self::Timeout => f.write_str("timeout"),
            Self::Idle => f.write_str("idle"),
            Self::Decode => f.write_str("decode"),
            Self::Connection => f.write_str("connection"),
        }
    }
}

impl EncodeLabelValue for Code {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        fmt::Write::write_fmt(encoder, format_args!("{self}"))
    }
}

impl Watches {
    pub(super) fn add(&self, resource: &'static str) -> Health {
        let health = Health(Arc::new(One {
            resource,
            errors: self.0.errors.clone(),
            state: Mutex::new(State {
                synced: false,
                answered: false,
                heard: Instant::now(),
                refused: None,
                denied_since: None,
                forbidden_since: None,
                dispensed: false,
                not_understood: false,
                error: None,
            }),
        }));
        let mut healths = self.lock();
        healths.retain(|health| health.strong_count() > 0);
        healths.push(Arc::downgrade(&health.0));
        health
    }

    /// All that are under way, in the order in which they were started.
    pub fn reports(&self) -> Vec<Report> {
        self.healths().iter().map(Health::report).collect()
    }

    /// Those that somebody relies on: of what is done without nothing is heard for ever.
    pub fn relied_on(&self) -> impl Iterator<Item = Report> {
        self.reports().into_iter().filter(|report| !report.dispensed)
    }

    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "watch_errors",
            "Failures of watches on the API server",
            self.0.errors.clone(),
        );
        registry.register_collector(Box::new(self.clone()));
    }

    /// Keeps the process from being ready as long as a watch has a [`Problem`]. Call it after the
    /// watches were started; the task never ends.
    ///
    /// `silent` is for how long the API server may be away.
    pub fn feed(&self, readiness: &Readiness, silent: Duration) -> impl Future<Output = ()> + Send + use<> {
        let mut latched: Vec<(Health, Option<Latch>)> = self
            .healths()
            .into_iter()
            .map(|health| {
                let latch = readiness.latch(health.0.resource);
                (health, Some(latch))
            })
            .collect();
        let readiness = readiness.clone();
        async move {
            loop {
                for (health, latch) in &mut latched {
                    match health.problem(silent) {
                        None => *latch = None,
                        Some(_) if latch.is_some() => {}
                        Some(_) => *latch = Some(readiness.latch(health.0.resource)),
                    }
                }
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    pub(super) fn healths(&self) -> Vec<Health> {
        let all = self.lock();
        all.iter().filter_map(Weak::upgrade).map(Health).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<One>>> {
        self.0.healths.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Watches {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // Several watches may be on the same resource, in different namespaces.
        let mut ages = BTreeMap::<&str, f64>::new();
        for report in self.relied_on() {
            let age = ages.entry(report.resource).or_default();
            *age = age.max(report.since_event.as_secs_f64());
        }
        let mut family = encoder.encode_descriptor(
            "watch_seconds_since_event",
            "Seconds since the API server was last heard on a watch",
            None,
            MetricType::Gauge,
        )?;
        for (resource, age) in ages {
            ConstGauge::new(age).encode(family.encode_family(&[("resource", resource)])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
impl Health {
    /// Of a watch that was heard of now and is denied from now on.
    pub(crate) fn of_denied() -> Self {
        let health = Watches::default().add("things");
        health.state().denied_since = Some(Instant::now());
        health
    }
}

impl Health {
    pub fn report(&self) -> Report {
        let state = self.state();
        let answered = state
            .refused
            .map_or(state.heard, |refused| refused.max(state.heard));
        Report {
            resource: self.0.resource,
            synced: state.synced,
            answered: state.answered,
            denied: state.denied_since.is_some() && !state.dispensed,
            dispensed: state.dispensed,
            since_event: state.heard.elapsed(),
            since_answer: answered.elapsed(),
            error: state.error.clone(),
        }
    }

    /// Whether it can be relied on, where silence is worrying after `silent`.
    pub fn problem(&self, silent: Duration) -> Option<Problem> {
        let state = self.state();
        if state.dispensed {
            return None;
        }
        if !state.synced {
            return Some(Problem::NotSynced);
        }
        if state.is_denied() {
            return Some(Problem::Denied);
        }
        (state.heard.elapsed() >= silent).then_some(Problem::Silent)
    }

    /// How old what is known may be by now, if the API server has answered last that it does not
    /// tell any more.
    pub fn denied(&self) -> Option<Duration> {
        let state = self.state();
        state.denied_since.map(|_| state.heard.elapsed())
    }

    pub(super) fn synced(&self) {
        self.state().synced = true;
    }

    /// Something that is understood.
    pub(super) fn heard(&self) {
        let mut state = self.state();
        state.heard = Instant::now();
        state.not_understood = false;
        state.is_answered();
    }

    pub(super) fn heard_at(&self) -> Instant {
        self.state().heard
    }

    /// Whether it is done without from now on.
    pub(super) fn dispense(&self) -> bool {
        let mut state = self.state();
        let news = state.is_forbidden() && !state.dispensed;
        // What there is not is complete.
        state.synced |= news;
        state.dispensed |= news;
        news
    }

    /// A watch has begun. What is not understood comes again then, so that is no news.
    pub(super) fn answered(&self) {
        let mut state = self.state();
        if !state.not_understood {
            state.is_answered();
        }
    }

    pub(super) fn failed(&self, code: Code, error: &Error) {
        self.count(code);
        let mut state = self.state();
        state.answered |= code.is_answer();
        if code.refuses() {
            state.refused = Some(Instant::now());
        }
        state.error = Some(error.to_string());
        state.not_understood = code == Code::Decode;
        let since = |is_so: bool, before: Option<Instant>| is_so.then(|| before.unwrap_or_else(Instant::now));
        state.denied_since = since(code.denies(), state.denied_since);
        state.forbidden_since = since(code.forbids(), state.forbidden_since);
    }

    pub(super) fn count(&self, code: Code) {
        let resource = self.0.resource;
        self.0.errors.get_or_create(&ErrorLabels { resource, code }).inc();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
