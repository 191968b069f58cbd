//! Several managers, one of which works.

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::*;
use crate::harness::api_server::{Disturbance, Instead, Seen};

async fn lease(tp: &Installation<'_>) -> LeaseSpec {
    let leases: Api<Lease> = Api::namespaced(tp.client.clone(), &tp.namespace);
    leases
        .get("sap-transp-proxy-manager")
        .await
        .unwrap()
        .spec
        .unwrap()
}

fn signal(running: &Running, signal: Signal) {
    let pid = i32::try_from(running.id()).unwrap();
    kill(Pid::from_raw(pid), signal).expect("it is our child");
}

async fn until_leading(running: &Running) {
    eventually("it leads", || async { leads(running).then_some(()) }).await;
}

/// Writes besides those of the lease.
fn work(disturbance: &Disturbance) -> Vec<Seen> {
    let writes = disturbance.writes().into_iter();
    writes.filter(|seen| !seen.is_of("leases")).collect()
}

#[tokio::test]
async fn a_standby_is_ready_and_takes_over_at_once_when_the_leader_stops() {
    let tp = Installation::new("standby").await;
    let shop = tp.managed("shop").await;
    let way = tp.server.disturbed().await;
    let mut leader = tp
        .manager("standby-leader")
        .env("KUBECONFIG", way.kubeconfig())
        .start();
    until_leading(&leader).await;
    let standby = tp.manager("standby").start();
    eventually("the standby is ready", || async {
        is_ready(&standby).then_some(())
    })
    .await;
    assert!(!leads(&standby));
    assert_eq!(leader.stop().code(), Some(0));
    let last = way.writes().pop().expect("it has led");
    let last: Value = serde_json::from_slice(&last.body).expect("a Lease");
    assert_eq!(
        last["spec"]["holderIdentity"], "",
        "nobody has to wait until it ends: {last}"
    );
    until_leading(&standby).await;
    tp.http("backend").await;
    tp.cr(&shop, "orders", "backend").await;
    tp.works(&shop, "orders").await;
    assert_eq!(lease(&tp).await.lease_transitions, Some(1));
}

#[tokio::test]
async fn a_leader_that_was_frozen_past_its_lease_writes_nothing() {
    let tp = Installation::new("frozen").await;
    let shop = tp.managed("shop").await;
    tp.http("backend").await;
    let ways = [tp.server.disturbed().await, tp.server.disturbed().await];
    let start = |name: &str, way: &Disturbance| tp.manager(name).env("KUBECONFIG", way.kubeconfig()).start();
    let first = start("frozen-first", &ways[0]);
    until_leading(&first).await;
    tp.cr(&shop, "before", "backend").await;
    tp.works(&shop, "before").await;
    let second = start("frozen-second", &ways[1]);
    eventually("the second one is ready", || async {
        is_ready(&second).then_some(())
    })
    .await;

    // One more write is on its way when the first one freezes, and arrives when somebody else leads.
    let late = |seen: &Seen| seen.method == "PATCH" && seen.is_of("under-way");
    ways[0].disturb_times(1, late, Instead::WhenReleased);
    tp.cr(&shop, "under-way", "backend").await;
    eventually("a write is under way", || async {
        ways[0].writes().iter().any(late).then_some(())
    })
    .await;
    signal(&first, Signal::SIGSTOP);
    until_leading(&second).await;
    tp.works(&shop, "under-way").await;
    let written = version(&tp, &shop, "under-way").await;
    tp.cr(&shop, "after", "backend").await;
    tp.works(&shop, "after").await;
    changes(&tp, &shop, 8080).await;
    let term = lease(&tp).await;
    ways[0].release();
    eventually("the late write has arrived", || async {
        (ways[0].arrived() == 1).then_some(())
    })
    .await;

    ways[0].forget();
    signal(&first, Signal::SIGCONT);
    first.line("the first one has stepped down", |line| {
        line["msg"] == "not leading any more"
    });
    changes(&tp, &shop, 8081).await;
    assert_eq!(
        version(&tp, &shop, "under-way").await,
        written,
        "the late write is refused"
    );
    assert_eq!(work(&ways[0]), [], "it wrote although somebody else leads");
    let now = lease(&tp).await;
    assert_eq!(
        (now.holder_identity, now.lease_transitions),
        (term.holder_identity, term.lease_transitions)
    );
    assert!(!leads(&first) && leads(&second));
}

async fn version(tp: &Installation<'_>, namespace: &str, name: &str) -> Option<String> {
    tp.crs(namespace)
        .get(name)
        .await
        .unwrap()
        .metadata
        .resource_version
}

/// The CR gets another port, and its Service too.
async fn changes(tp: &Installation<'_>, namespace: &str, number: i32) {
    let spec = json!({"service": {"port": number}});
    tp.change(namespace, "before", spec).await;
    eventually("somebody works", || async {
        (port(&tp.virtual_ip("before").await).0 == number).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_manager_that_cannot_renew_stops_writing() {
    let tp = Installation::new("renewal").await;
    let shop = tp.managed("shop").await;
    tp.http("backend").await;
    let way = tp.server.disturbed().await;
    let manager = tp.manager("renewal").env("KUBECONFIG", way.kubeconfig()).start();
    until_leading(&manager).await;
    way.disturb(|seen| seen.is_of("leases"), Instead::Status(500));
    eventually("it leads no more", || async { (!leads(&manager)).then_some(()) }).await;
    way.forget();
    tp.cr(&shop, "orders", "backend").await;
    eventually("it has tried to lead again and again", || async {
        let tries = way.seen().into_iter().filter(|seen| seen.is_of("leases"));
        (tries.count() >= 3).then_some(())
    })
    .await;
    assert_eq!(work(&way), [], "the lease may be somebody else's");
    way.calm();
    tp.works(&shop, "orders").await;
}

/// From now on nothing is heard of CRs there, but of Services.
async fn silence_crs(way: &Disturbance) {
    way.disturb(
        |seen| seen.is_watch() && seen.is_of("destinations"),
        Instead::Silence,
    );
    way.forget();
    way.end_streams();
    let watches = |what: &'static str| way.seen().iter().any(|seen| seen.is_watch() && seen.is_of(what));
    eventually("it hears nothing of CRs, but of Services", || async {
        (watches("destinations") && watches("services")).then_some(())
    })
    .await;
}

/// A Service that is made again has another virtual IP, which cuts whoever uses it.
#[tokio::test]
async fn a_new_leader_that_has_not_seen_a_cr_yet_deletes_nothing_of_it() {
    let tp = Installation::new("lagging").await;
    let shop = tp.managed("shop").await;
    tp.http("backend").await;
    let way = tp.server.disturbed().await;
    let mut leader = tp.manager("lagging-leader").start();
    until_leading(&leader).await;
    let standby = tp.manager("lagging").env("KUBECONFIG", way.kubeconfig()).start();
    eventually("the standby is ready", || async {
        is_ready(&standby).then_some(())
    })
    .await;
    silence_crs(&way).await;
    tp.cr(&shop, "orders", "backend").await;
    tp.works(&shop, "orders").await;
    let before = tp.virtual_ip("orders").await;
    leader.stop();
    until_leading(&standby).await;
    eventually("it has asked for the CR", || async {
        let asks = |seen: &Seen| !seen.is_watch() && seen.is_of("destinations") && seen.is_of("orders");
        way.seen().iter().any(asks).then_some(())
    })
    .await;
    way.calm();
    // What the silent watch did not tell comes when it is given up.
    tp.change(&shop, "orders", json!({"service": {"port": 81}})).await;
    within(Duration::from_mins(1), "the CR is seen", || async {
        (port(&tp.virtual_ip("orders").await).0 == 81).then_some(())
    })
    .await;
    let after = tp.virtual_ip("orders").await;
    assert_eq!(after.metadata.uid, before.metadata.uid);
    assert_eq!(target_port(&after), target_port(&before), "agents listen there");
    assert!(work(&way).iter().all(|seen| seen.method != "DELETE"));
    // One that is gone is deleted all the same.
    tp.remove(&shop, "orders").await;
    tp.nothing_is_left().await;
}

#[tokio::test]
async fn a_new_leader_that_knows_an_older_namesake_longer_than_it_lived_deletes_nothing_for_it() {
    let tp = Installation::new("ghost").await;
    let (shop, warehouse) = (tp.managed("shop").await, tp.managed("warehouse").await);
    tp.http("backend").await;
    let way = tp.server.disturbed().await;
    let mut leader = tp.manager("ghost-leader").start();
    until_leading(&leader).await;
    let standby = tp.manager("ghost").env("KUBECONFIG", way.kubeconfig()).start();
    let older = tp.cr(&shop, "orders", "backend").await;
    tp.works(&shop, "orders").await;
    eventually("a second has passed", || async {
        let created = older.metadata.creation_timestamp.clone()?.0;
        let age = created.duration_until(k8s_openapi::jiff::Timestamp::now());
        (age.as_secs() >= 2).then_some(())
    })
    .await;
    tp.cr(&warehouse, "orders", "backend").await;
    tp.becomes(&warehouse, "orders", Reason::DuplicateCustomResource)
        .await;
    eventually("the standby is ready", || async {
        is_ready(&standby).then_some(())
    })
    .await;
    silence_crs(&way).await;
    tp.remove(&shop, "orders").await;
    tp.works(&warehouse, "orders").await;
    let before = tp.virtual_ip("orders").await;
    leader.stop();
    until_leading(&standby).await;
    eventually("it has asked for the older CR", || async {
        let asks = |seen: &Seen| !seen.is_watch() && seen.is_of("destinations") && seen.is_of(&shop);
        way.seen().iter().any(asks).then_some(())
    })
    .await;
    way.calm();
    tp.change(&warehouse, "orders", json!({"service": {"port": 81}}))
        .await;
    within(Duration::from_mins(1), "what has happened is seen", || async {
        (port(&tp.virtual_ip("orders").await).0 == 81).then_some(())
    })
    .await;
    let after = tp.virtual_ip("orders").await;
    assert_eq!(after.metadata.uid, before.metadata.uid);
    assert_eq!(target_port(&after), target_port(&before), "agents listen there");
    assert!(work(&way).iter().all(|seen| seen.method != "DELETE"));
}
