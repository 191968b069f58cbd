//! One robust watch, for everybody.
//!
//! A [`Query`] says which objects; [`Query::start`] gives a [`Reader`] of what is known of them and
//! the task that keeps it current. The task never ends: it lists in pages, watches from there on,
//! and after any trouble goes on from the last version that it saw. Where that version is too old,
//! or leads nowhere, it lists again, and compares, so that what was missed meanwhile is told like
//! any other change.
//!
//! It is not `kube::runtime::watcher` because that keeps bookmarks to itself: a watch on objects
//! that never change looks the same to it whether it is healthy or dead. And where the API server
//! answers 410 to the start of a watch, it asks for the same version for ever.

mod backoff;
mod health;
mod store;

pub use self::health::{Health, Problem, Report, Watches};
pub use self::store::{Change, Key, Reader};

/// Takes what a watch sees, where a [`Reader`] is not what is wanted.
///
/// A list is told by `begin`, `listed` for each object, and `finish`: what it did not show is gone
/// then. A list that broke off is told by the next `begin`.
pub trait Sink<K>: Send + 'static {
    /// How the watch is, for a sink that wants to know.
    fn watched(&mut self, _health: &Health) {}
    fn begin(&mut self);
    fn listed(&mut self, object: K);
    fn finish(&mut self);
    /// Between lists: it is new, or has changed.
    fn applied(&mut self, object: K);
    fn deleted(&mut self, object: K);
}

use std::convert::Infallible;
use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{Stream, TryStreamExt as _};
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, info, warn};

use self::backoff::Backoff;
use self::health::Code;
use super::{Error, timely_within};

/// Keeps what a [`Reader`] reads current, for ever.
pub type Task = BoxFuture<'static, Infallible>;

/// The objects to watch.
#[derive(Debug, Clone)]
pub struct Query<K> {
    api: Api<K>,
    resource: &'static str,
    labels: Option<String>,
    fields: Option<String>,
    dispensable: bool,
}

/// For one page of a list, or the begin of a watch.
const REQUEST: Duration = Duration::from_secs(30);

/// Without any event or bookmark, while a watch is under way: API servers send bookmarks every
/// minute. What is known is not relied on any longer then, since a watch may be in order and never
/// be told anything: an API server whose storage was restored accepts a version that is yet to
/// come, and drops all events before it (<https://github.com/kubernetes/kubernetes/issues/107457>).
const IDLE: Duration = Duration::from_secs(150);

/// First pause after a failure; it doubles.
const PAUSE: Duration = Duration::from_millis(500);

/// Longest pause: how long it takes at most to notice that the API server is back. One that starts
/// rejects some requests, so there has to be time for more than one attempt within ten seconds.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// So many objects are in memory at once while they are listed, as parsed and as text.
const PAGE: u32 = 250;

/// API servers are asked to end a watch after this long, so that clients spread over them.
const WATCH_SECONDS: u32 = 290;

/// A watch that lived for so long was no failure, whatever ended it.
const LIVED: Duration = Duration::from_secs(10);

impl<K> Query<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    /// `resource` is the name in logs, metrics and among what readiness waits for.
    pub fn new(api: Api<K>, resource: &'static str) -> Self {
        Self {
            api,
            resource,
            labels: None,
            fields: None,
            dispensable: false,
        }
    }

    /// Where access is forbidden for long, there are no such objects, and nothing waits for them.
    /// For what the installation can do without, and others may take away.
    #[must_use]
    pub fn dispensable(mut self) -> Self {
        self.dispensable = true;
        self
    }

    /// Only objects with these labels, as in `a=b,c`.
    #[must_use]
    pub fn labels(mut self, selector: impl Into<String>) -> Self {
        self.labels = Some(selector.into());
        self
    }

    /// Only objects with these fields, as in `spec.nodeName=a`.
    #[must_use]
    pub fn fields(mut self, selector: impl Into<String>) -> Self {
        self.fields = Some(selector.into());
        self
    }

    /// What is known, and the task that keeps it current.
    ///
    /// `keep` picks what is stored of an object, or that it is of no interest. `changed` is told of
    /// each difference in what is stored, after it is stored and while nobody else can change it:
    /// it must be quick.
    pub fn start<T>(
        self,
        watches: &Watches,
        keep: impl Fn(K) -> Option<T> + Send + 'static,
        changed: impl FnMut(Change<'_, T>) + Send + 'static,
    ) -> (Reader<T>, Task)
    where
        T: PartialEq + Send + Sync + 'static,
    {
        let (reader, writer) = store::new(keep, changed);
        (reader, self.feed(watches, writer))
    }

    /// The task that tells `sink` of everything.
    pub fn feed(self, watches: &Watches, mut sink: impl Sink<K>) -> Task {
        let health = watches.add(self.resource);
        sink.watched(&health);
        let watching = Watching {
            health,
            backoff: Backoff::new(PAUSE, LONGEST_PAUSE),
            away: false,
            query: self,
            sink,
        };
        Box::pin(watching.run())
    }
}

struct Watching<K, S> {
    query: Query<K>,
    sink: S,
    health: Health,
    backoff: Backoff,
    /// The last attempt got no answer.
    away: bool,
}

/// Why a watch, or the list before it, ended.
#[derive(Debug)]
enum End {
    /// In good order: go on from the last version.
    Resume,
    /// The version is too old: list again.
    Expired,
    /// Nothing was heard for long: list again.
    Silent,
    Failed(Code, Error),
}

impl<K, S> Watching<K, S>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    S: Sink<K>,
{
    async fn run(mut self) -> Infallible {
        loop {
            match self.list().await {
                Ok(version) => {
                    self.health.synced();
                    debug!(resource = self.query.resource, "listed");
                    self.follow(version).await;
                }
                Err(end) => {
                    self.pause(&end).await;
                    self.dispense();
                }
            }
        }
    }

    /// Goes on without these objects, if that has to be; gives whether they have to be listed
    /// when there is access again.
    fn dispense(&mut self) -> bool {
        if !self.query.dispensable || !self.health.dispense() {
            return false;
        }
        warn!(
            resource = self.query.resource,
            place = self.query.api.resource_url(),
            "access is forbidden, so there are none, until it is granted"
        );
        self.sink.begin();
        self.sink.finish();
        true
    }

    /// All objects, page by page; gives the version to watch from.
    async fn list(&mut self) -> Result<String, End> {
        self.sink.begin();
        let mut next = None;
        loop {
            let params = self.list_params(next);
            let page = timely_within(REQUEST, self.query.api.list(&params)).await?;
            self.health.heard();
            for object in page.items {
                self.sink.listed(object);
            }
            next = page.metadata.continue_.filter(|token| !token.is_empty());
            if next.is_none() {
                self.sink.finish();
                return Ok(page.metadata.resource_version.unwrap_or_default());
            }
        }
    }

    /// Watches from `version` on until that is of no use any more.
    async fn follow(&mut self, mut version: String) {
        loop {
            let begin = Instant::now();
            let end = match self.watch(&mut version).await {
                Ok(end) | Err(end) => end,
            };
            if begin.elapsed() >= LIVED {
                self.backoff.reset();
            }
            self.pause(&end).await;
            let reason = match end {
                End::Expired => Some("the last version is too old"),
                End::Silent => Some("the watch is silent"),
                End::Resume | End::Failed(..) => None,
            };
            if let Some(reason) = reason {
                info!(resource = self.query.resource, reason, "listing again");
                return;
            }
            if self.dispense() {
                return;
            }
        }
    }

    /// One watch request.
    async fn watch(&mut self, version: &mut String) -> Result<End, End> {
        let params = self.watch_params();
        let starting = self.query.api.watch(&params, version);
        let mut events = pin!(timely_within(REQUEST, starting).await?);
        self.health.answered();
        while let Some(event) = self.next(&mut events).await? {
            self.apply(event, version)?;
            self.health.heard();
        }
        Ok(End::Resume)
    }

    /// None where the stream ended.
    async fn next(
        &mut self,
        events: &mut (impl Stream<Item = kube::Result<WatchEvent<K>>> + Unpin),
    ) -> Result<Option<WatchEvent<K>>, End> {
        let Ok(next) = timeout_at(self.health.heard_at() + IDLE, events.try_next()).await else {
            return Err(End::Silent);
        };
        next.map_err(|error| End::from(Error::from(error)))
    }

    fn apply(&mut self, event: WatchEvent<K>, version: &mut String) -> Result<(), End> {
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                remember(version, object.meta().resource_version.as_deref());
                self.sink.applied(object);
            }
            WatchEvent::Deleted(object) => {
                remember(version, object.meta().resource_version.as_deref());
                self.sink.deleted(object);
            }
            WatchEvent::Bookmark(bookmark) => {
                remember(version, Some(&bookmark.metadata.resource_version));
            }
            WatchEvent::Error(status) => return Err(Error::from(kube::Error::Api(status)).into()),
        }
        Ok(())
    }

    /// Records why it ended, and waits before the next attempt.
    async fn pause(&mut self, end: &End) {
        let asked = match end {
            End::Resume => None,
            End::Expired => {
                self.health.count(Code::Status(410));
                None
            }
            End::Silent => {
                self.health.count(Code::Idle);
                None
            }
            End::Failed(code, error) => {
                warn!(resource = self.query.resource, code = %code, %error, "watch failed");
                self.health.failed(*code, error);
                error.retry_after()
            }
        };
        let is_away = matches!(end, End::Failed(Code::Connection | Code::Timeout, _));
        if std::mem::replace(&mut self.away, is_away) && !is_away {
            // The outage is over, and what the server rejects while it starts it soon takes.
            self.backoff.reset();
        }
        let pause = match end {
            // What is in good order once is not when it happens again and again.
            End::Resume | End::Expired | End::Silent => self.backoff.next_but_first(),
            End::Failed(..) => self.backoff.next(),
        };
        tokio::time::sleep(pause.max(asked.unwrap_or_default())).await;
    }

    fn list_params(&self, next: Option<String>) -> ListParams {
        ListParams {
            label_selector: self.query.labels.clone(),
            field_selector: self.query.fields.clone(),
            limit: Some(PAGE),
            continue_token: next,
            ..ListParams::default()
        }
    }

    fn watch_params(&self) -> WatchParams {
        WatchParams {
            label_selector: self.query.labels.clone(),
            field_selector: self.query.fields.clone(),
            timeout: Some(WATCH_SECONDS),
            bookmarks: true,
            send_initial_events: false,
        }
    }
}

fn remember(version: &mut String, seen: Option<&str>) {
    if let Some(seen) = seen.filter(|seen| !seen.is_empty()) {
        seen.clone_into(version);
    }
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        match Code::of(&error) {
            Code::Status(410) => Self::Expired,
            code => Self::Failed(code, error),
        }
    }
}

#[cfg(test)]
mod tests;
