use std::convert::Infallible;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;

/// An API server that knows one lease.
#[derive(Debug, Clone, Default)]
struct FakeApi(Arc<Mutex<Stored>>);

#[derive(Debug, Default)]
struct Stored {
    lease: Option<Value>,
    version: u64,
    writes: u32,
    /// Nothing is answered.
    is_frozen: bool,
}

impl FakeApi {
    fn client(&self) -> Client {
        let stored = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let stored = stored.clone();
            async move {
                let method = request.method().clone();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let body: Value = serde_json::from_slice(&body).unwrap_or_default();
                while stored.state().is_frozen {
                    sleep(Duration::from_millis(10)).await;
                }
                Ok::<_, Infallible>(stored.answer(&method, body))
            }
        });
        Client::new(service, "tp")
    }

    fn answer(&self, method: &Method, mut body: Value) -> Response<Full<Bytes>> {
        let mut state = self.state();
        let current = state
            .lease
            .as_ref()
            .map(|lease| &lease["metadata"]["resourceVersion"]);
        let refused = match *method {
            Method::POST => current.is_some().then_some(409),
            Method::PUT => (current != Some(&body["metadata"]["resourceVersion"])).then_some(409),
            _ => current.is_none().then_some(404),
        };
        if let Some(code) = refused {
            let reason = if code == 404 { "NotFound" } else { "Conflict" };
            let status = json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason});
            return response(code, &status);
        }
        if *method != Method::GET {
            state.version += 1;
            state.writes += 1;
            body["metadata"]["resourceVersion"] = state.version.to_string().into();
            state.lease = Some(body);
        }
        response(200, state.lease.as_ref().unwrap())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Stored> {
        self.0.lock().unwrap()
    }

    fn holder(&self) -> String {
        let state = self.state();
        state.lease.as_ref().unwrap()["spec"]["holderIdentity"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

fn response(code: u16, value: &Value) -> Response<Full<Bytes>> {
    let body = Full::new(Bytes::from(value.to_string()));
    Response::builder().status(code).body(body).unwrap()
}

struct Candidate {
    leadership: Leadership,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
}

impl Candidate {
    fn start(api: &FakeApi, identity: &str) -> Self {
        let leases = Api::namespaced(api.client(), "tp");
        let (elector, leadership) = Elector::new(leases, "manager", identity.to_owned(), Timing::default());
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(elector.run(async {
            let _ = stopped.await;
        }));
        Self {
            leadership,
            stop: Some(stop),
            running,
        }
    }

    fn leads(&self) -> bool {
        self.leadership.remaining().is_some()
    }

    async fn gains(&mut self) -> Duration {
        let begin = Instant::now();
        self.leadership.gained().await;
        begin.elapsed()
    }

    async fn stop(mut self) {
        drop(self.stop.take());
        (&mut self.running).await.unwrap();
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        self.running.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_one_leads_and_renews() {
    let api = FakeApi::default();
    let mut one = Candidate::start(&api, "one");
    one.gains().await;
    sleep(Duration::from_mins(1)).await;
    assert!(one.leads());
    assert_eq!(api.holder(), "one");
    let writes = api.state().writes;
    assert!((30..=31).contains(&writes), "every two seconds: {writes}");
}

#[tokio::test(start_paused = true)]
async fn the_second_one_waits_without_writing() {
    let api = FakeApi::default();
    let mut one = Candidate::start(&api, "one");
    one.gains().await;
    let two = Candidate::start(&api, "two");
    sleep(Duration::from_mins(1)).await;
    assert!(one.leads() && !two.leads());
    assert_eq!(api.holder(), "one");
}

#[tokio::test(start_paused = true)]
async fn who_stops_lets_the_next_one_in_at_once() {
    let api = FakeApi::default();
    let mut one = Candidate::start(&api, "one");
    one.gains().await;
    let mut two = Candidate::start(&api, "two");
    sleep(Duration::from_secs(5)).await;
    one.stop().await;
    assert_eq!(api.holder(), "");
    assert!(two.gains().await <= Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_dead_leader_is_followed_after_its_lease() {
    let api = FakeApi::default();
    let mut one = Candidate::start(&api, "one");
    one.gains().await;
    let mut two = Candidate::start(&api, "two");
    sleep(Duration::from_secs(5)).await;
    one.running.abort();
    let waited = two.gains().await.as_secs();
    assert!((13..=18).contains(&waited), "{waited}");
    assert_eq!(api.holder(), "two");
    assert_eq!(api.state().lease.as_ref().unwrap()["spec"]["leaseTransitions"], 1);
}

#[tokio::test(start_paused = true)]
async fn without_the_api_server_nobody_leads_after_ten_seconds() {
    let api = FakeApi::default();
    let mut one = Candidate::start(&api, "one");
    one.gains().await;
    sleep(Duration::from_secs(5)).await;
    api.state().is_frozen = true;
    sleep(Duration::from_secs(7)).await;
    assert!(one.leads());
    sleep(Duration::from_secs(3)).await;
    assert!(!one.leads());
    let begin = Instant::now();
    one.leadership.lost().await;
    assert!(begin.elapsed() <= Duration::from_secs(4));
    api.state().is_frozen = false;
    assert!(one.gains().await <= Duration::from_secs(6));
}

#[tokio::test(start_paused = true)]
async fn there_are_never_two_leaders() {
    let api = FakeApi::default();
    let candidates: Vec<Candidate> = (0..4)
        .map(|number| Candidate::start(&api, &number.to_string()))
        .collect();
    let mut with_leader = 0;
    for second in 0..600 {
        api.state().is_frozen = second % 40 > 15;
        sleep(Duration::from_secs(1)).await;
        let leaders = candidates.iter().filter(|candidate| candidate.leads()).count();
        assert!(leaders <= 1, "{leaders} in second {second}");
        with_leader += leaders;
    }
    assert!(with_leader > 200, "{with_leader}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_somebody_deletes_is_made_again() {
    let api = FakeApi::default();
    let mut one = Candidate::start(&api, "one");
    one.gains().await;
    api.state().lease = None;
    sleep(Duration::from_secs(4)).await;
    assert_eq!(api.holder(), "one");
    assert!(one.leads());
}

#[tokio::test(start_paused = true)]
async fn nobody_holds_a_lease_that_was_not_renewed_for_long() {
    const EXPIRES: Duration = Duration::from_secs(16);
    let renewed = |second| LeaseSpec {
        holder_identity: Some("manager-1".to_owned()),
        renew_time: Some(MicroTime(Timestamp::from_second(second).unwrap())),
        ..LeaseSpec::default()
    };
    let mut renewals = Renewals::default();
    let mut have_ended = |lease| renewals.have_ended(lease, EXPIRES);
    for second in 0..30 {
        assert!(!have_ended(renewed(second)), "{second}");
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    tokio::time::advance(EXPIRES).await;
    assert!(have_ended(renewed(29)));
    assert!(!have_ended(renewed(30)), "somebody has it");
    assert!(!have_ended(LeaseSpec::default()), "it is gone, this moment");
    tokio::time::advance(EXPIRES).await;
    assert!(have_ended(LeaseSpec::default()));
}
