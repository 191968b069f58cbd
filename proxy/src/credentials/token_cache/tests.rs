use std::sync::atomic::AtomicUsize;

use http::StatusCode;
use tokio::time::{advance, sleep, timeout};

use super::*;

/// A token service in the mind: answers after 50 ms.
struct Service {
    calls: AtomicUsize,
    outcome: Mutex<Result<Duration, Error>>,
}

impl Service {
    fn issuing(life: Duration) -> Arc<Self> {
        Arc::new(Self {
            calls: AtomicUsize::new(0),
            outcome: Mutex::new(Ok(life)),
        })
    }

    fn failing(error: Error) -> Arc<Self> {
        let service = Self::issuing(Duration::ZERO);
        service.set(Err(error));
        service
    }

    fn set(&self, outcome: Result<Duration, Error>) {
        *self.outcome.lock().expect("no panic") = outcome;
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    fn entry(self: &Arc<Self>) -> Arc<Entry> {
        let service = Arc::clone(self);
        let fetch: Fetch = Box::new(move || {
            let service = Arc::clone(&service);
            Box::pin(async move {
                let call = service.calls.fetch_add(1, Ordering::SeqCst);
                sleep(Duration::from_millis(50)).await;
                let life = service.outcome.lock().expect("no panic").clone()?;
                let header = HeaderValue::from_str(&format!("Bearer {call}")).expect("a value");
                Ok(Fetched { header, life })
            })
        });
        Entry::new("test".to_owned(), fetch, CacheCounts::default())
    }
}

fn unavailable(retry_after: Option<Duration>) -> Error {
    Error::TokenServiceStatus {
        status: StatusCode::SERVICE_UNAVAILABLE,
        code: None,
        detail: None,
        retry_after,
    }
}

const MINUTE: Duration = Duration::from_mins(1);

#[tokio::test(start_paused = true)]
async fn a_thousand_who_wait_share_one_call() {
    let service = Service::issuing(MINUTE);
    let entry = service.entry();
    let waiting: Vec<_> = (0..1000)
        .map(|_| {
            let entry = Arc::clone(&entry);
            tokio::spawn(async move { entry.token().await.expect("a token").generation })
        })
        .collect();
    let mut generations = Vec::new();
    for waiter in waiting {
        generations.push(waiter.await.expect("no panic"));
    }
    generations.dedup();
    assert_eq!(generations.len(), 1);
    assert_eq!(service.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_goes_on_when_who_asked_first_goes_away() {
    let service = Service::issuing(MINUTE);
    let entry = service.entry();
    timeout(Duration::from_millis(10), entry.token())
        .await
        .map(|_| ())
        .expect_err("gone before the answer");
    assert!(entry.token().await.is_ok());
    assert_eq!(service.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_shared_by_all_who_wait() {
    let service = Service::failing(unavailable(None));
    let entry = service.entry();
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let entry = Arc::clone(&entry);
            tokio::spawn(async move { entry.token().await.map(|_| ()) })
        })
        .collect();
    for waiter in waiting {
        waiter.await.expect("no panic").expect_err("a failure");
    }
    assert_eq!(service.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_of_a_minute_is_never_injected_expired_in_ten_minutes_of_load() {
    let service = Service::issuing(MINUTE);
    let entry = service.entry();
    let mut issued = std::collections::HashMap::new();
    let mut waits = 0;
    for _ in 0..60_000 {
        let token = if let Some(token) = entry.ready() {
            token
        } else {
            waits += 1;
            entry.token().await.expect("a token")
        };
        let first_use = *issued.entry(token.generation).or_insert_with(Instant::now);
        assert!(first_use.elapsed() < Duration::from_secs(54), "less the margin");
        advance(Duration::from_millis(10)).await;
    }
    assert_eq!(
        waits, 1,
        "renewed ahead of expiry, so only the first request waits"
    );
    assert!((11..=13).contains(&service.calls()), "{} calls", service.calls());
}

#[tokio::test(start_paused = true)]
async fn the_margin_is_30_seconds_or_a_tenth_of_life() {
    for (life, usable) in [(3600, 3570), (100, 90), (10, 9)] {
        let service = Service::issuing(Duration::from_secs(life));
        let entry = service.entry();
        let token = entry.token().await.expect("a token");
        assert_eq!(token.expires - Instant::now(), Duration::from_secs(usable));
    }
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_is_not_used_even_if_the_service_is_down() {
    let service = Service::issuing(MINUTE);
    let entry = service.entry();
    entry.token().await.expect("a token");
    service.set(Err(unavailable(None)));
    advance(Duration::from_secs(50)).await;
    assert!(entry.ready().is_some(), "still good, though its renewal fails");
    sleep(Duration::from_secs(5)).await;
    assert!(entry.ready().is_none());
    entry.token().await.map(|_| ()).expect_err("no token");
    service.set(Ok(MINUTE));
    sleep(LONGEST_PAUSE).await;
    entry.token().await.expect("the service is back");
}

#[tokio::test(start_paused = true)]
async fn failures_are_remembered_up_to_two_seconds() {
    let service = Service::failing(unavailable(None));
    let entry = service.entry();
    for _ in 0..6000 {
        entry.token().await.map(|_| ()).expect_err("no token");
        advance(Duration::from_millis(10)).await;
    }
    // 0.25 s, 0.5 s, 1 s, then every 2 s in a minute.
    assert!((28..=34).contains(&service.calls()), "{} calls", service.calls());
    service.set(Ok(MINUTE));
    sleep(LONGEST_PAUSE).await;
    entry.token().await.expect("the service is back");
}

#[tokio::test(start_paused = true)]
async fn the_wish_of_the_service_to_be_left_alone_is_honoured() {
    let service = Service::failing(unavailable(Some(Duration::from_secs(30))));
    let entry = service.entry();
    for _ in 0..29 {
        let error = entry.token().await.map(|_| ()).expect_err("no token");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(30)));
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(service.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_is_repeated_with_growing_pauses() {
    let service = Service::issuing(Duration::from_hours(1));
    let entry = service.entry();
    entry.token().await.expect("a token");
    service.set(Err(unavailable(None)));
    advance(Duration::from_mins(54)).await;
    for _ in 0..300 {
        assert!(entry.ready().is_some());
        sleep(Duration::from_secs(1)).await;
    }
    // 0.25 s … 32 s, then every minute.
    assert!((8..=16).contains(&service.calls()), "{} calls", service.calls());
}

#[tokio::test(start_paused = true)]
async fn only_the_token_that_was_refused_is_dropped_and_not_too_often() {
    let service = Service::issuing(Duration::from_hours(1));
    let entry = service.entry();
    let first = entry.token().await.expect("a token");
    entry.rejected(first.generation);
    assert!(entry.ready().is_none());

    let second = entry.token().await.expect("another token");
    entry.rejected(first.generation);
    assert!(entry.ready().is_some(), "it is not the one that was refused");
    entry.rejected(second.generation);
    assert!(entry.ready().is_some(), "too soon");
    advance(BETWEEN_REJECTIONS).await;
    entry.rejected(second.generation);
    assert!(entry.ready().is_none());
    assert_eq!(service.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_lost_call_does_not_block_the_next_one() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let fetch: Fetch = Box::new(move || {
        let call = counted.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            assert!(call > 0, "the first call panics");
            Ok(Fetched {
                header: HeaderValue::from_static("Bearer x"),
                life: MINUTE,
            })
        })
    });
    let entry = Entry::new("test".to_owned(), fetch, CacheCounts::default());
    let lost = entry.token().await.map(|_| ()).expect_err("lost");
    assert!(matches!(lost, Error::Cancelled));
    entry.token().await.expect("a token");
}

#[tokio::test(start_paused = true)]
async fn the_old_token_is_used_until_the_new_one_is_there() {
    let service = Service::issuing(MINUTE);
    let entry = service.entry();
    let first = entry.token().await.expect("a token");
    advance(Duration::from_secs(52)).await;
    assert_eq!(entry.ready().expect("still good").generation, first.generation);
    sleep(Duration::from_millis(60)).await;
    assert_ne!(entry.ready().expect("renewed").generation, first.generation);
}
