mod api;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;

use self::api::{FakeApi, object};
use super::*;
use crate::cluster::slim::Metadata;
use crate::lifecycle::readiness::Readiness;

const SILENT: Duration = Duration::from_mins(10);

/// A watch on ConfigMaps, of which the uid is kept.
struct Fixture {
    api: FakeApi,
    reader: Reader<String>,
    watches: Watches,
    changes: Arc<Mutex<Vec<String>>>,
    watching: JoinHandle<Infallible>,
}

impl Fixture {
    fn new() -> Self {
        Self::of(|query| query)
    }

    fn of(change: impl FnOnce(Query<Metadata<ConfigMap>>) -> Query<Metadata<ConfigMap>>) -> Self {
        let api = FakeApi::new();
        let watches = Watches::default();
        let changes = Arc::<Mutex<Vec<String>>>::default();
        let query = Query::<Metadata<ConfigMap>>::new(Api::all(api.client()), "things").labels("a=b");
        let (reader, watching) = change(query).start(&watches, |object| object.metadata.uid, {
            let changes = Arc::clone(&changes);
            move |change| changes.lock().unwrap().push(told(&change))
        });
        Self {
            api,
            reader,
            watches,
            changes,
            watching: tokio::spawn(watching),
        }
    }

    /// Past a first list of `objects`, at version 10, in a watch.
    async fn watching(objects: &[serde_json::Value]) -> (Self, api::Stream) {
        let mut fixture = Self::new();
        fixture.api.list().await.page(objects, "10", "");
        let stream = fixture.api.watch("10").await.stream();
        fixture.take_changes();
        (fixture, stream)
    }

    fn take_changes(&self) -> Vec<String> {
        std::mem::take(&mut self.changes.lock().unwrap())
    }

    fn metrics(&self) -> String {
        let mut registry = Registry::default();
        self.watches.register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    #[track_caller]
    fn assert_counted(&self, code: &str, times: u32) {
        let line = format!(r#"watch_errors_total{{resource="things",code="{code}"}} {times}"#);
        let text = self.metrics();
        assert!(text.contains(&line), "{line} in {text}");
    }

    fn report(&self) -> Report {
        self.watches.reports().remove(0)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

fn told(change: &Change<'_, String>) -> String {
    let [before, after] = [change.before, change.after].map(|side| side.map_or("-", |uid| uid.as_str()));
    format!("{}: {before} -> {after}", change.key)
}

#[tokio::test(start_paused = true)]
async fn everything_is_listed_in_pages_and_watched_from_there() {
    let mut fixture = Fixture::new();
    let first = fixture.api.list().await;
    assert!(first.query().contains("limit=250"), "{}", first.query());
    assert!(first.query().contains("labelSelector=a%3Db"), "{}", first.query());
    first.page(&[object("a", "u1")], "10", "next page");
    let second = fixture.api.list().await;
    assert!(
        second.query().contains("continue=next+page"),
        "{}",
        second.query()
    );
    assert!(!fixture.reader.is_synced());
    second.page(&[object("b", "u2")], "10", "");
    let watch = fixture.api.watch("10").await;
    assert!(
        watch.query().contains("allowWatchBookmarks=true"),
        "{}",
        watch.query()
    );
    assert!(fixture.reader.is_synced());
    assert_eq!(fixture.reader.get("ns", "a").unwrap().as_str(), "u1");
    assert_eq!(fixture.reader.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn events_change_what_is_known_and_are_told_if_they_do() {
    let (mut fixture, mut stream) = Fixture::watching(&[object("a", "u1")]).await;
    stream.event("ADDED", &object("b", "u2")).await;
    stream.event("MODIFIED", &object("a", "u1")).await;
    stream.event("DELETED", &object("a", "u1")).await;
    stream.event("MODIFIED", &object("b", "u3")).await;
    stream.end();
    let _next = fixture.api.any().await;
    assert_eq!(
        fixture.take_changes(),
        ["ns/b: - -> u2", "ns/a: u1 -> -", "ns/b: u2 -> u3"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ended_goes_on_from_the_last_bookmark() {
    let (mut fixture, mut stream) = Fixture::watching(&[]).await;
    stream.bookmark("17").await;
    stream.end();
    fixture.api.watch("17").await.stream();
}

#[tokio::test(start_paused = true)]
async fn a_line_that_was_cut_is_asked_for_again() {
    let (mut fixture, mut stream) = Fixture::watching(&[]).await;
    stream.event("ADDED", &object("a", "u1")).await;
    stream.text(r#"{"type":"ADDED","object":{"metadata":{"na"#).await;
    stream.end();
    let mut stream = fixture.api.watch("5").await.stream();
    stream.event("ADDED", &object("b", "u2")).await;
    stream.end();
    let _next = fixture.api.any().await;
    assert_eq!(fixture.take_changes(), ["ns/a: - -> u1", "ns/b: - -> u2"]);
}

#[tokio::test(start_paused = true)]
async fn after_410_in_a_watch_everything_is_listed_and_compared() {
    let (mut fixture, mut stream) =
        Fixture::watching(&[object("a", "u1"), object("b", "u2"), object("c", "u3")]).await;
    stream.error(410).await;
    let list = fixture.api.list().await;
    // Gone, made again, the same, new.
    list.page(
        &[object("b", "u9"), object("c", "u3"), object("d", "u4")],
        "20",
        "",
    );
    fixture.api.watch("20").await;
    assert_eq!(
        fixture.take_changes(),
        ["ns/b: u2 -> u9", "ns/d: - -> u4", "ns/a: u1 -> -"]
    );
    fixture.assert_counted("410", 1);
}

#[tokio::test(start_paused = true)]
async fn after_410_at_the_begin_of_a_watch_everything_is_listed() {
    let mut fixture = Fixture::new();
    fixture.api.list().await.page(&[object("a", "u1")], "10", "");
    fixture.api.watch("10").await.fail(410);
    fixture.api.list().await.page(&[], "20", "");
    fixture.api.watch("20").await;
    assert!(fixture.reader.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_list_that_expired_between_pages_deletes_nothing() {
    let (mut fixture, mut stream) = Fixture::watching(&[object("a", "u1"), object("b", "u2")]).await;
    stream.error(410).await;
    fixture.api.list().await.page(&[object("a", "u1")], "20", "more");
    fixture.api.list().await.fail(410);
    let again = fixture.api.list().await;
    assert!(!again.query().contains("continue"), "{}", again.query());
    assert_eq!(fixture.reader.len(), 2);
    again.page(&[object("a", "u1"), object("b", "u2")], "30", "");
    fixture.api.watch("30").await;
    assert_eq!(fixture.take_changes(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_server_in_trouble_is_asked_again_at_most_ten_seconds_later() {
    let mut fixture = Fixture::new();
    for _ in 0..20 {
        let asked = Instant::now();
        fixture.api.list().await.fail(503);
        assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    }
    fixture.api.list().await.page(&[], "10", "");
    fixture.api.watch("10").await;
    fixture.assert_counted("503", 20);
}

/// What is up again answers at first that it is not ready.
#[tokio::test(start_paused = true)]
async fn a_server_that_rejects_the_first_request_after_an_outage_is_asked_again_soon() {
    let mut fixture = Fixture::new();
    for _ in 0..10 {
        drop(fixture.api.list().await);
    }
    let back = Instant::now();
    fixture.api.list().await.fail(503);
    fixture.api.list().await.page(&[], "10", "");
    fixture.api.watch("10").await;
    assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
    fixture.assert_counted("connection", 10);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_a_pause_gets_it() {
    let mut fixture = Fixture::new();
    fixture.api.list().await.too_many_requests(17);
    let asked = Instant::now();
    fixture.api.list().await;
    assert!(
        asked.elapsed() >= Duration::from_secs(17),
        "{:?}",
        asked.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_every_watch_at_once_is_not_flooded() {
    let (mut fixture, stream) = Fixture::watching(&[]).await;
    stream.end();
    let begin = Instant::now();
    for _ in 0..10 {
        fixture.api.watch("10").await.stream().end();
    }
    assert!(begin.elapsed() > Duration::from_secs(15), "{:?}", begin.elapsed());
}

/// As after a restore of etcd, when the last version that was seen is yet to come: every watch from
/// there is accepted, and never told anything.
/// See <https://github.com/kubernetes/kubernetes/issues/107457>.
#[tokio::test(start_paused = true)]
async fn after_silence_everything_is_listed_although_each_watch_is_accepted() {
    let (mut fixture, stream) = Fixture::watching(&[object("a", "u1")]).await;
    let begin = Instant::now();
    let list = fixture.api.list().await;
    assert_eq!(begin.elapsed().as_secs(), 150);
    assert_eq!(fixture.report().since_event.as_secs(), 150);
    fixture.assert_counted("idle", 1);
    list.page(&[object("b", "u2")], "3", "");
    let next = fixture.api.watch("3").await;
    assert_eq!(fixture.report().since_event, Duration::ZERO);
    assert_eq!(fixture.take_changes(), ["ns/b: - -> u2", "ns/a: u1 -> -"]);
    drop((stream, next));
}

/// Something in between may end watches before they have been silent for long.
#[tokio::test(start_paused = true)]
async fn silence_is_not_broken_by_the_begin_of_a_watch() {
    let (mut fixture, mut stream) = Fixture::watching(&[]).await;
    let begin = Instant::now();
    for times in 1..=2 {
        tokio::time::sleep(Duration::from_mins(1)).await;
        stream.end();
        stream = fixture.api.watch("10").await.stream();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(fixture.report().since_event.as_secs() >= 60 * times);
    }
    fixture.api.list().await.page(&[], "10", "");
    assert_eq!(begin.elapsed().as_secs(), 150);
    fixture.api.watch("10").await.stream();
    drop(stream);
}

#[tokio::test(start_paused = true)]
async fn a_watch_with_bookmarks_is_not_silent() {
    let (mut fixture, mut stream) = Fixture::watching(&[]).await;
    for version in 11..20 {
        tokio::time::sleep(Duration::from_mins(1)).await;
        stream.bookmark(&version.to_string()).await;
    }
    stream.end();
    fixture.api.watch("19").await;
}

/// Nobody has told anything by then, and what is known is old.
#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_back_after_long_makes_it_ready_at_once() {
    let (mut fixture, stream) = Fixture::watching(&[]).await;
    let readiness = Readiness::default();
    let feeding = tokio::spawn(fixture.watches.feed(&readiness, SILENT));
    stream.end();
    let begin = Instant::now();
    while begin.elapsed() < SILENT {
        fixture.api.watch("10").await.fail(503);
    }
    let silent = fixture.api.watch("10").await.stream();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!readiness.is_ready(), "it has only begun to watch");
    fixture.api.list().await.page(&[], "20", "");
    let _next = fixture.api.watch("20").await.stream();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(readiness.is_ready());
    assert!(begin.elapsed() < SILENT + Duration::from_secs(30));
    feeding.abort();
    drop(silent);
}

#[tokio::test(start_paused = true)]
async fn an_error_in_a_watch_is_no_word_of_what_is_watched() {
    let (mut fixture, mut stream) = Fixture::watching(&[]).await;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(100) {
        stream.error(500).await;
        stream = fixture.api.watch("10").await.stream();
    }
    assert!(fixture.report().since_event.as_secs() >= 100);
}

#[tokio::test(start_paused = true)]
async fn a_request_without_answer_is_given_up() {
    let mut fixture = Fixture::new();
    let unanswered = fixture.api.list().await;
    let begin = Instant::now();
    fixture.api.list().await;
    assert!(
        (30..40).contains(&begin.elapsed().as_secs()),
        "{:?}",
        begin.elapsed()
    );
    fixture.assert_counted("timeout", 1);
    drop(unanswered);
}

#[tokio::test(start_paused = true)]
async fn metrics_say_how_long_nothing_was_heard() {
    let (mut fixture, mut stream) = Fixture::watching(&[]).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    let text = fixture.metrics();
    assert!(
        text.contains(r#"watch_seconds_since_event{resource="things"} 100"#),
        "{text}"
    );
    stream.bookmark("11").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(fixture.report().since_event.as_secs(), 1);
    stream.end();
    fixture.api.watch("11").await;
}

#[tokio::test(start_paused = true)]
async fn readiness_waits_for_the_first_list() {
    let mut fixture = Fixture::new();
    let readiness = Readiness::default();
    let feeding = tokio::spawn(fixture.watches.feed(&readiness, SILENT));
    assert_eq!(readiness.pending(), ["things"]);
    fixture.api.list().await.page(&[], "10", "");
    fixture.api.watch("10").await.stream();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(readiness.is_ready());
    feeding.abort();
}

#[tokio::test(start_paused = true)]
async fn a_denial_says_how_old_what_is_known_may_be() {
    let (mut fixture, mut stream) = Fixture::watching(&[]).await;
    let health = fixture.watches.healths().remove(0);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(health.denied(), None);
    stream.error(403).await;
    fixture.api.watch("10").await.fail(403);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(health.denied().is_some_and(|age| age >= Duration::from_millis(1)));
    assert!(fixture.report().denied && fixture.report().answered);
    fixture.api.watch("10").await.stream();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(health.denied(), None);
}

#[tokio::test(start_paused = true)]
async fn an_answer_counts_also_if_it_is_a_refusal() {
    const A_WHILE: Duration = Duration::from_secs(10);
    let mut fixture = Fixture::new();
    let mut call = fixture.api.list().await;
    for (code, is_there) in [(503, false), (429, true), (404, true), (500, false)] {
        tokio::time::sleep(A_WHILE).await;
        call.fail(code);
        call = fixture.api.list().await;
        let report = fixture.report();
        assert!(report.answered && !report.synced, "{code}");
        assert_eq!(report.since_answer < A_WHILE, is_there, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_given_up_is_not_told_of_any_more() {
    let (fixture, _stream) = Fixture::watching(&[]).await;
    let query = Query::<Metadata<ConfigMap>>::new(Api::all(fixture.api.client()), "more");
    let (_reader, task) = query.start(&fixture.watches, |object| object.metadata.uid, |_| {});
    let told = |fixture: &Fixture| -> Vec<_> {
        let reports = fixture.watches.reports();
        reports.iter().map(|report| report.resource).collect()
    };
    assert_eq!(told(&fixture), ["things", "more"]);
    drop(task);
    assert_eq!(told(&fixture), ["things"]);
    assert!(!fixture.metrics().contains("more"));
}

#[tokio::test(start_paused = true)]
async fn access_denied_for_long_is_not_ready_until_it_is_granted() {
    let (mut fixture, mut stream) = Fixture::watching(&[]).await;
    let readiness = Readiness::default();
    let feeding = tokio::spawn(fixture.watches.feed(&readiness, SILENT));
    stream.error(403).await;
    let begin = Instant::now();
    // Pauses are up to four seconds, and after thirty it counts.
    while begin.elapsed() < Duration::from_secs(20) {
        fixture.api.watch("10").await.fail(401);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(fixture.report().error.as_deref(), Some("for a test"));
    }
    assert!(readiness.is_ready(), "a short denial is none");
    while begin.elapsed() < Duration::from_secs(45) {
        fixture.api.watch("10").await.fail(403);
    }
    assert_eq!(readiness.pending(), ["things"]);
    fixture.api.watch("10").await.stream();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(readiness.is_ready());
    assert_eq!(fixture.report().error, None);
    feeding.abort();
}

#[tokio::test(start_paused = true)]
async fn an_absent_server_makes_it_unready_only_after_the_time_it_may_be_away() {
    let (mut fixture, stream) = Fixture::watching(&[]).await;
    let readiness = Readiness::default();
    let feeding = tokio::spawn(fixture.watches.feed(&readiness, SILENT));
    stream.end();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(580) {
        fixture.api.watch("10").await.fail(503);
        assert!(readiness.is_ready());
    }
    while begin.elapsed() < Duration::from_secs(620) {
        fixture.api.watch("10").await.fail(503);
    }
    assert!(!readiness.is_ready());
    feeding.abort();
}

#[tokio::test(start_paused = true)]
async fn what_can_be_done_without_is_gone_while_access_is_denied_and_nothing_waits_for_it() {
    let mut fixture = Fixture::of(Query::dispensable);
    let readiness = Readiness::default();
    let feeding = tokio::spawn(fixture.watches.feed(&readiness, SILENT));
    fixture.api.list().await.page(&[object("a", "u1")], "10", "");
    fixture.api.watch("10").await.fail(403);
    let begin = Instant::now();
    loop {
        let call = fixture.api.any().await;
        if !call.is_watch() {
            call.fail(403);
            break;
        }
        assert_eq!(fixture.reader.len(), 1, "after {:?}", begin.elapsed());
        call.fail(403);
    }
    assert!(
        begin.elapsed() >= Duration::from_secs(30),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(fixture.take_changes(), ["ns/a: - -> u1", "ns/a: u1 -> -"]);
    while begin.elapsed() < SILENT * 2 {
        fixture.api.list().await.fail(403);
        assert!(begin.elapsed() < Duration::from_secs(45) || readiness.is_ready());
    }
    assert_eq!(fixture.report().error.as_deref(), Some("for a test"));
    assert_eq!(fixture.watches.relied_on().count(), 0, "its silence says nothing");
    let age = r#"watch_seconds_since_event{resource="things"}"#;
    assert!(!fixture.metrics().contains(age));
    fixture.api.list().await.page(&[object("a", "u1")], "20", "");
    fixture.api.watch("20").await.stream();
    assert!(fixture.metrics().contains(age));
    assert_eq!(fixture.take_changes(), ["ns/a: - -> u1"]);
    assert_eq!(fixture.report().error, None);
    feeding.abort();
}

/// The token of the installation is not accepted: that says nothing of what it may read.
#[tokio::test(start_paused = true)]
async fn what_can_be_done_without_stays_while_nobody_knows_who_asks() {
    let mut fixture = Fixture::of(Query::dispensable);
    let readiness = Readiness::default();
    let feeding = tokio::spawn(fixture.watches.feed(&readiness, SILENT));
    fixture.api.list().await.page(&[object("a", "u1")], "10", "");
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(50) {
        fixture.api.watch("10").await.fail(401);
    }
    assert_eq!(readiness.pending(), ["things"]);
    // What came before is not added to it.
    let forbidden = Instant::now();
    while forbidden.elapsed() < Duration::from_secs(20) {
        fixture.api.watch("10").await.fail(403);
    }
    assert_eq!(fixture.reader.len(), 1);
    feeding.abort();
}

#[tokio::test(start_paused = true)]
async fn what_was_never_there_to_be_read_counts_as_listed() {
    let mut fixture = Fixture::of(Query::dispensable);
    let begin = Instant::now();
    while !fixture.reader.is_synced() {
        fixture.api.list().await.fail(403);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(begin.elapsed() < Duration::from_secs(45), "{:?}", begin.elapsed());
    }
    assert!(
        begin.elapsed() >= Duration::from_secs(30),
        "{:?}",
        begin.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_understood_is_told_until_one_is() {
    let (mut fixture, mut stream) = Fixture::watching(&[]).await;
    let garbled = serde_json::json!({"metadata": {"name": 7}});
    stream.event("ADDED", &garbled).await;
    for _ in 0..3 {
        let again = fixture.api.watch("10").await;
        assert!(fixture.report().error.is_some());
        let mut stream = again.stream();
        stream.event("ADDED", &garbled).await;
    }
    let mut stream = fixture.api.watch("10").await.stream();
    stream.event("ADDED", &object("a", "u1")).await;
    stream.end();
    let _next = fixture.api.any().await;
    assert_eq!(fixture.report().error, None);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_after_each_event_is_not_asked_for_without_pause() {
    let (mut fixture, stream) = Fixture::watching(&[]).await;
    stream.end();
    let begin = Instant::now();
    for number in 0..10 {
        let mut stream = fixture.api.any().await.stream();
        stream.event("ADDED", &object(&format!("a{number}"), "u")).await;
        stream.end();
    }
    let _next = fixture.api.any().await;
    assert!(begin.elapsed() > Duration::from_secs(15), "{:?}", begin.elapsed());
    assert_eq!(fixture.reader.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_lived_for_a_while_ends_without_consequences() {
    let (mut fixture, stream) = Fixture::watching(&[]).await;
    stream.end();
    for _ in 0..10 {
        let stream = fixture.api.watch("10").await.stream();
        tokio::time::sleep(LIVED).await;
        let begin = Instant::now();
        stream.end();
        let next = fixture.api.watch("10").await;
        assert_eq!(begin.elapsed(), Duration::ZERO);
        next.stream().end();
    }
}
