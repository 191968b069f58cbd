//! Who has nothing to do writes nothing.

use std::collections::BTreeSet;

use super::*;
use crate::harness::api_server::Seen;

/// Seconds to watch; many minutes are for a test by hand.
const VARIABLE: &str = "CONTROLLER_IDLE_SECONDS";

/// In the middle of it everything is looked at again.
const CYCLE: u64 = 75;

const CRS: usize = 100;

/// Whom an event that was written is about.
fn regarding(seen: &Seen) -> Option<String> {
    if !seen.is_of("events") {
        return None;
    }
    let event: Value = serde_json::from_slice(&seen.body).ok()?;
    Some(event["regarding"]["name"].as_str()?.to_owned())
}

#[tokio::test]
async fn with_nothing_to_do_only_the_lease_is_written() {
    let tp = Installation::new("idle").await;
    let shop = tp.managed("shop").await;
    tp.http("backend").await;
    let way = tp.server.disturbed().await;
    let manager = tp
        .manager_with("idle", &json!({"executionIntervalMinutes": 1}))
        .env("KUBECONFIG", way.kubeconfig())
        .start();
    let names: Vec<String> = (0..CRS).map(|number| format!("dest-{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        // Some are in order, some are not.
        let destination = if number % 4 == 0 { "missing" } else { "backend" };
        tp.cr(&shop, name, destination).await;
    }
    for (number, name) in names.iter().enumerate() {
        let reason = if number % 4 == 0 {
            Reason::DestinationNotFound
        } else {
            Reason::ConfigurationSuccessful
        };
        tp.becomes(&shop, name, reason).await;
    }
    // It comes after the condition of which it tells.
    eventually("there is an event for each", || async {
        let writes = way.writes();
        let told: BTreeSet<String> = writes.iter().filter_map(regarding).collect();
        (told.len() == CRS).then_some(())
    })
    .await;
    way.forget();
    let before = metric(&manager, r#"tp_manager_reconciles_total{result="nothing"} "#);
    let seconds = std::env::var(VARIABLE).map_or(CYCLE, |seconds| seconds.parse().unwrap());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let looked = metric(&manager, r#"tp_manager_reconciles_total{result="nothing"} "#);
    assert!(looked > before, "a cycle is over");
    let seen = way.writes();
    let (leases, others): (Vec<_>, Vec<_>) = seen.into_iter().partition(|seen| seen.is_of("leases"));
    assert_eq!(others, []);
    let at_most = usize::try_from(seconds).unwrap() / 2 + 2;
    assert!(
        !leases.is_empty() && leases.len() <= at_most,
        "{} renewals in {seconds} s",
        leases.len()
    );
}
