//! What happens when parts fail.

use std::time::Duration;

use tokio::time::Instant;

use crate::harness::wait::{eventually, until};
use crate::harness::world::World;

const AGENT_LOST_FOR_AT_MOST: Duration = Duration::from_secs(3);
/// Refused, not timed out: for a machine under load.
const NO_HANG: Duration = Duration::from_secs(2);
/// By hand it can be longer: minutes, in this variable.
const OUTAGE: Duration = Duration::from_mins(1);
const OUTAGE_VARIABLE: &str = "API_SERVER_OUTAGE_MINUTES";
const RECOVERED_WITHIN: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_secs(30);

/// The hook dies with the agent, and connections go by the Service to the fallback until it is back. Those that
/// were on their way to the agent itself go nowhere: at most for so long, and refused at once.
pub fn a_killed_agent_costs_at_most_three_seconds_of_refusals(world: &World) {
    let installation = world.installation();
    let [pod, other] = world.shop();
    let before = installation.agent("node1");
    let asking = pod.pressure(&["-rate", "50", "-expect", "welcome", "http://catalog/"]);
    let elsewhere = other.pressure(&["-rate", "50", "-expect", "welcome", "http://catalog/"]);
    let catalog = &world.servers().catalog;
    let fallback: Vec<_> = installation.fallback().iter().map(|pod| pod.address).collect();
    let served_by_the_fallback = || {
        let requests = catalog.requests();
        let by_it = requests.iter().filter(|request| fallback.contains(&request.from));
        by_it.count()
    };
    catalog.forget();
    until(SOON, "requests arrive", || !catalog.requests().is_empty());
    assert_eq!(served_by_the_fallback(), 0, "agents serve their nodes");
    installation.kill(&before);
    until(SOON, "the fallback serves meanwhile", || {
        served_by_the_fallback() > 0
    });
    until(SOON, "the agent restarts", || {
        installation.agent("node1").restarts > before.restarts
    });
    installation.wait_until_agents_are_ready();
    let summary = asking.stop();
    assert!(summary.outage() <= AGENT_LOST_FOR_AT_MOST, "{summary:#?}");
    assert!(summary.slowest() <= NO_HANG, "{summary:#?}");
    elsewhere.stop().assert_all_answered();
    until(SOON, "the agent serves its node again", || {
        pod.curl("http://catalog/").status == 200 && catalog.last().from == before.address
    });
}

/// What needs no credential is served by an agent that starts in the meantime, too: it remembers that much.
pub fn traffic_goes_on_while_the_api_server_is_away_and_an_agent_restarts(world: &World) {
    let installation = world.installation();
    installation.wait_until_agents_are_ready();
    let restarting = installation.agent("node2");
    // What goes through the API server, like `kubectl exec`, would stop with it.
    let [pod, other] = world.shop().map(|pod| pod.by_its_runtime());
    world.servers().news.forget();
    let asking = pod.pressure(&[
        "-rate",
        "50",
        "-expect",
        "welcome",
        "http://catalog/",
        "http://news/",
    ]);
    until(SOON, "requests arrive", || {
        !world.servers().news.requests().is_empty()
    });

    let begin = Instant::now();
    let api_server = world.cluster.node("node1").freeze("kube-apiserver");
    installation.kill(&restarting);
    eventually(
        SOON,
        "the restarted agent serves what needs no credential",
        || {
            world.servers().news.forget();
            let answer = other.curl("http://news/");
            match world.servers().news.requests().last() {
                Some(request) if request.from == restarting.address && answer.status == 200 => Ok(()),
                request => Err(format!("{answer:?} by {request:?}")),
            }
        },
    );
    let answer = other.curl("http://catalog/");
    assert_eq!(answer.status, 502, "it has no credential for this: {answer:?}");
    std::thread::park_timeout((begin + outage()).saturating_duration_since(Instant::now()));
    drop(api_server);
    eventually(
        RECOVERED_WITHIN,
        "the agent has credentials again",
        || match other.curl("http://catalog/").status {
            200 => Ok(()),
            other => Err(other.to_string()),
        },
    );
    asking.stop().assert_all_answered();
    installation.wait_until_agents_are_ready();
}

fn outage() -> Duration {
    std::env::var(OUTAGE_VARIABLE)
        .ok()
        .and_then(|minutes| minutes.parse().ok())
        .map_or(OUTAGE, Duration::from_mins)
}
