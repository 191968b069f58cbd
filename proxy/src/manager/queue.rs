//! Names that have to be looked at.
//!
//! Each is in here once, however often it changes; nobody works on a name that somebody else works
//! on; what failed comes again, later and later. What changes meanwhile comes at once.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// A name that was written so often within a minute is probably written by somebody else as well,
/// who wants something else, and comes later from then on.
const MANY_WRITES: usize = 10;
const WRITES_OF: Duration = Duration::from_mins(1);
const BREATHER: Duration = Duration::from_secs(10);

pub(super) type Name = Arc<str>;

#[derive(Debug, Clone, Default)]
pub(super) struct Queue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<Name>,
    /// When, and a number that keeps those of one moment apart.
    later: BTreeMap<(Instant, u64), Name>,
    number: u64,
    names: HashMap<Name, Entered>,
    writes: Writes,
}

/// What is known of a name that is in here, being worked on, or has failed.
#[derive(Debug, Default)]
struct Entered {
    place: Place,
    failures: u32,
    /// It changed while somebody worked on it.
    again: bool,
}

/// What was written within the last minute.
#[derive(Debug, Default)]
struct Writes {
    all: VecDeque<(Instant, Name)>,
    of: HashMap<Name, usize>,
}

impl Writes {
    fn add(&mut self, name: &Name) {
        self.all.push_back((Instant::now(), Arc::clone(name)));
        *self.of.entry(Arc::clone(name)).or_default() += 1;
    }

    fn are_many(&mut self, name: &str) -> bool {
        while self.all.front().is_some_and(|(at, _)| at.elapsed() >= WRITES_OF) {
            if let Some((_, old)) = self.all.pop_front()
                && let Entry::Occupied(mut count) = self.of.entry(old)
            {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
        self.of.get(name).is_some_and(|count| *count >= MANY_WRITES)
    }
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    Nowhere,
    Ready,
    Later((Instant, u64)),
    AtWork,
}

/// What became of the work on a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Written,
    Failed(Option<Duration>),
}

/// A name to work on. Dropping it without a word counts as a failure.
#[derive(Debug)]
#[must_use]
pub(super) struct Work {
    name: Name,
    queue: Queue,
    is_told: bool,
}

impl Queue {
    /// Something about the name has changed.
    pub(super) fn push(&self, name: &str) {
        self.state().push(name);
        self.0.changed.notify_one();
    }

    /// It is to be looked at after `delay`, unless it is in here already.
    pub(super) fn push_later(&self, name: &str, delay: Duration) {
        self.state().push_later(name, Instant::now() + delay);
        self.0.changed.notify_one();
    }

    /// The next name; cancelling loses none.
    pub(super) async fn next(&self) -> Work {
        loop {
            let changed = self.0.changed.notified();
            let wake = {
                let mut state = self.state();
                state.ripen(Instant::now());
                if let Some(name) = state.take() {
                    if !state.ready.is_empty() {
                        self.0.changed.notify_one();
                    }
                    return Work {
                        name,
                        queue: self.clone(),
                        is_told: false,
                    };
                }
                state.later.keys().next().map(|(at, _)| *at)
            };
            match wake {
                Some(at) => tokio::select! {
                    () = changed => {}
                    () = sleep_until(at) => {}
                },
                None => changed.await,
            }
        }
    }

    /// Forgets everything that nobody works on.
    pub(super) fn clear(&self) {
        let mut state = self.state();
        state.ready.clear();
        state.later.clear();
        state.names.retain(|_, entered| entered.place == Place::AtWork);
    }

    /// Names that wait, those for later included.
    pub(super) fn len(&self) -> usize {
        let state = self.state();
        state.ready.len() + state.later.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, name: &str) {
        if self.writes.are_many(name) {
            self.push_once(name, Instant::now() + BREATHER);
            return;
        }
        let (name, entered) = self.entered(name);
        match entered.place {
            Place::Ready => return,
            Place::AtWork => {
                entered.again = true;
                return;
            }
            Place::Later(at) => {
                entered.place = Place::Ready;
                self.later.remove(&at);
            }
            Place::Nowhere => entered.place = Place::Ready,
        }
        self.ready.push_back(name);
    }

    /// Later, also where somebody works on it.
    fn push_once(&mut self, name: &str, at: Instant) {
        let (_, entered) = self.entered(name);
        if entered.place == Place::AtWork {
            entered.again = true;
        } else {
            self.push_later(name, at);
        }
    }

    fn push_later(&mut self, name: &str, at: Instant) {
        self.number += 1;
        let at = (at, self.number);
        let (name, entered) = self.entered(name);
        if entered.place == Place::Nowhere {
            entered.place = Place::Later(at);
            self.later.insert(at, name);
        }
    }

    fn entered(&mut self, name: &str) -> (Name, &mut Entered) {
        let name: Name = match self.names.get_key_value(name) {
            Some((name, _)) => Arc::clone(name),
            None => name.into(),
        };
        let entered = self.names.entry(Arc::clone(&name)).or_default();
        (name, entered)
    }

    /// Those whose time has come.
    fn ripen(&mut self, now: Instant) {
        while let Some(first) = self.later.first_entry()
            && first.key().0 <= now
        {
            let name = first.remove();
            if let Some(entered) = self.names.get_mut(&name) {
                entered.place = Place::Ready;
            }
            self.ready.push_back(name);
        }
    }

    fn take(&mut self) -> Option<Name> {
        let name = self.ready.pop_front()?;
        let entered = self.names.entry(Arc::clone(&name)).or_default();
        entered.place = Place::AtWork;
        entered.again = false;
        Some(name)
    }

    fn told(&mut self, name: &Name, told: Told) {
        if told == Told::Written {
            self.writes.add(name);
        }
        let Entry::Occupied(mut entry) = self.names.entry(Arc::clone(name)) else {
            return;
        };
        let entered = entry.get_mut();
        entered.place = Place::Nowhere;
        let again = std::mem::take(&mut entered.again);
        if let Told::Failed(asked) = told {
            entered.failures = entered.failures.saturating_add(1);
            let pause = pause(entered.failures).max(asked.unwrap_or_default());
            if !again || asked.is_some() {
                self.push_later(name, Instant::now() + pause);
                return;
            }
        } else if again {
            entered.failures = 0;
        } else {
            entry.remove();
        }
        if again {
            self.push(name);
        }
    }
}

fn pause(failures: u32) -> Duration {
    let factor = 2u32.saturating_pow((failures - 1).min(16));
    let pause = FIRST_PAUSE.saturating_mul(factor).min(LONGEST_PAUSE);
    pause.mul_f64(0.5 + fastrand::f64() / 2.0)
}

impl Work {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// There was nothing to do, as far as is known.
    pub(super) fn done(mut self) {
        self.tell(Told::Nothing);
    }

    /// What there was to do is written.
    pub(super) fn written(mut self) {
        self.tell(Told::Written);
    }

    /// It is to be tried again, not before the time that somebody asked for.
    pub(super) fn failed(mut self, asked: Option<Duration>) {
        self.tell(Told::Failed(asked));
    }

    fn tell(&mut self, told: Told) {
        if !std::mem::replace(&mut self.is_told, true) {
            self.queue.state().told(&self.name, told);
            self.queue.0.changed.notify_one();
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.tell(Told::Failed(None));
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    async fn is_empty_for(queue: &Queue, time: Duration) -> bool {
        timeout(time, queue.next()).await.map(Work::done).is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_in_it_once() {
        let queue = Queue::default();
        queue.push("a");
        queue.push("b");
        queue.push("a");
        for name in ["a", "b"] {
            let work = queue.next().await;
            assert_eq!(work.name(), name);
            work.done();
        }
        assert!(is_empty_for(&queue, Duration::from_hours(1)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn what_changes_while_somebody_works_on_it_comes_again_afterwards() {
        let queue = Queue::default();
        queue.push("a");
        let work = queue.next().await;
        queue.push("a");
        assert!(is_empty_for(&queue, Duration::from_hours(1)).await);
        work.done();
        queue.next().await.done();
        assert!(is_empty_for(&queue, Duration::from_hours(1)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_comes_later_and_later_until_it_succeeds() {
        let queue = Queue::default();
        queue.push("a");
        queue.next().await.failed(None);
        let mut before = Duration::ZERO;
        for at_least in [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
            let begin = Instant::now();
            queue.next().await.failed(None);
            before = begin.elapsed();
            assert!(before.as_secs_f64() >= at_least, "{before:?}");
        }
        assert!(before <= LONGEST_PAUSE);
        queue.next().await.done();
        queue.push("a");
        queue.next().await.failed(None);
        let begin = Instant::now();
        queue.next().await.done();
        assert!(begin.elapsed() <= FIRST_PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_does_not_wait_for_the_pause_after_a_failure() {
        let queue = Queue::default();
        queue.push("a");
        for _ in 0..10 {
            queue.next().await.failed(None);
        }
        let begin = Instant::now();
        queue.push("a");
        queue.next().await.done();
        assert_eq!(begin.elapsed(), Duration::ZERO);
        assert!(is_empty_for(&queue, Duration::from_hours(1)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_for_a_pause_gets_it_also_where_something_changed() {
        let queue = Queue::default();
        queue.push("a");
        let work = queue.next().await;
        queue.push("a");
        let begin = Instant::now();
        work.failed(Some(Duration::from_secs(17)));
        queue.next().await.done();
        assert_eq!(begin.elapsed().as_secs(), 17);
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_somebody_else_keeps_changing_is_not_written_without_end() {
        let queue = Queue::default();
        let begin = Instant::now();
        let mut writes = 0;
        queue.push("a");
        while begin.elapsed() < WRITES_OF * 10 {
            let work = queue.next().await;
            // Somebody undoes it at once.
            queue.push("a");
            work.written();
            writes += 1;
            tokio::time::advance(Duration::from_millis(10)).await;
        }
        assert!((MANY_WRITES..=MANY_WRITES * 11).contains(&writes), "{writes}");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_name_that_was_written_often() {
        let queue = Queue::default();
        for _ in 0..MANY_WRITES {
            queue.push("a");
            queue.next().await.written();
        }
        let begin = Instant::now();
        queue.push("a");
        queue.push("b");
        let work = queue.next().await;
        assert_eq!((work.name(), begin.elapsed()), ("b", Duration::ZERO));
        work.written();
        queue.next().await.done();
        assert_eq!(begin.elapsed().as_secs(), BREATHER.as_secs());
        tokio::time::advance(WRITES_OF).await;
        let begin = Instant::now();
        queue.push("a");
        queue.next().await.done();
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_broke_off_is_not_lost() {
        let queue = Queue::default();
        queue.push("a");
        drop(queue.next().await);
        queue.next().await.done();
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_for_later_comes_later() {
        let queue = Queue::default();
        queue.push_later("b", Duration::from_secs(2));
        queue.push_later("a", Duration::from_secs(1));
        queue.push_later("a", Duration::from_secs(3));
        let begin = Instant::now();
        for (name, second) in [("a", 1), ("b", 2)] {
            let work = queue.next().await;
            assert_eq!((work.name(), begin.elapsed().as_secs()), (name, second));
            work.done();
        }
        assert!(is_empty_for(&queue, Duration::from_hours(1)).await);
    }

    #[tokio::test]
    async fn many_work_on_many_names_but_never_two_on_one() {
        let queue = Queue::default();
        let busy = Arc::new(Mutex::new(std::collections::HashSet::new()));
        let mut workers = tokio::task::JoinSet::new();
        for name in 0..100 {
            queue.push(&name.to_string());
        }
        for _ in 0..8 {
            let (queue, busy) = (queue.clone(), Arc::clone(&busy));
            workers.spawn(async move {
                for _ in 0..25 {
                    let work = queue.next().await;
                    assert!(busy.lock().unwrap().insert(work.name().to_owned()));
                    queue.push(work.name());
                    tokio::task::yield_now().await;
                    assert!(busy.lock().unwrap().remove(work.name()));
                    work.done();
                }
            });
        }
        while let Some(worker) = workers.join_next().await {
            worker.unwrap();
        }
    }
}
