//! Tells the hook which cgroup is of which namespace, and what the hook then refuses.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::board::Board;
use super::callers::Callers;
use super::numbers::Numbers;
use super::pod_table::PodTable;
use super::refusals::{At, Reason, Refusal, RefusalLog};
use crate::datapath::pods::{PodCgroups, PodsByCgroup};
use crate::datapath::{self, NamespaceNumber, Refusals, RefusedConnect};
use crate::resolve::pods::{PodUid, Pods};
use crate::resolve::scope::Refused;

/// Pods come in bursts.
const BURST: Duration = Duration::from_millis(50);

/// Keeps the kernel's table of callers as cgroups and pods say. Never ends by itself.
///
/// A cgroup whose pod is not known is not in it: its connections are redirected, and looked at
/// when they have come.
pub(super) async fn tell(cgroups: PodCgroups, node: PodTable, numbers: Numbers, callers: datapath::Callers) {
    let (mut found, mut pods) = (cgroups.outermost(), node.changes());
    loop {
        pods.mark_unchanged();
        let wanted = wanted(&found.borrow_and_update().clone(), &node.read(), &numbers);
        if let Err(error) = write(&wanted, &callers) {
            warn!(%error, "the hook does not know all callers");
        }
        // Afterwards, so that whoever comes alone is known at once.
        tokio::time::sleep(BURST).await;
        tokio::select! {
            Ok(()) = found.changed() => {}
            Ok(()) = pods.changed() => {}
            else => return,
        }
    }
}

fn wanted(cgroups: &PodsByCgroup, pods: &Pods, numbers: &Numbers) -> HashMap<u64, NamespaceNumber> {
    let number = |uid: &str| {
        let pod = pods.by_uid(PodUid::parse(uid)?)?;
        Some(numbers.of(&pod.namespace))
    };
    let known = |(cgroup, uid): (&u64, &datapath::pods::PodUid)| Some((*cgroup, number(uid.as_str())?));
    cgroups.iter().filter_map(known).collect()
}

fn write(
    wanted: &HashMap<u64, NamespaceNumber>,
    callers: &datapath::Callers,
) -> Result<(), datapath::CallersError> {
    callers.retain(|cgroup, _| wanted.contains_key(&cgroup))?;
    let set = |(cgroup, namespace): (&u64, &NamespaceNumber)| callers.set(*cgroup, *namespace);
    // All of them, whatever becomes of one.
    wanted.iter().map(set).fold(Ok(()), Result::and)
}

/// A pod that connects again and again, whatever it is told, must not keep this runtime busy:
/// so many refusals are looked at, then others have their turn. What the ring buffer cannot hold
/// meanwhile is dropped and counted by the hook.
const LOOKED_AT: usize = 128;
const PAUSE: Duration = Duration::from_millis(10);
/// After a failure.
const AGAIN: Duration = Duration::from_secs(10);

/// Logs and counts what the hook refuses. Never ends by itself.
pub(super) async fn log_refusals(
    mut refusals: Refusals,
    callers: Arc<Callers>,
    board: Board,
    log: RefusalLog,
) {
    loop {
        match refusals.batch(LOOKED_AT).await {
            Ok(batch) => {
                for refused in &batch {
                    log.add(&refusal(refused, &callers, &board));
                }
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => {
                warn!(%error, "nothing is heard of what the hook refuses");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

fn refusal(refused: &RefusedConnect, callers: &Callers, board: &Board) -> Refusal {
    Refusal {
        conn_id: None,
        cr: board.cr(refused.wanted.ip()),
        caller: callers.known_by_cgroup(refused.cgroup).to_string(),
        address: refused.wanted,
        reason: match refused.reason {
            datapath::Refusal::Scope => Reason::Scope(Refused::OtherNamespace),
            datapath::Refusal::Port => Reason::Port,
            datapath::Refusal::Udp => Reason::Udp,
        },
        at: At::Connect,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::pods::testing::pod_in;

    #[test]
    fn cgroups_of_known_pods_have_the_number_of_their_namespace() {
        let mut pods = Pods::default();
        pods.apply(pod_in("shop"));
        let uid = String::from(pod_in("shop").uid);
        let cgroups = HashMap::from([
            (7, datapath::pods::PodUid::from(uid.as_str())),
            (
                8,
                datapath::pods::PodUid::from("00000000-0000-0000-0000-000000000009"),
            ),
        ]);
        let numbers = Numbers::default();
        let number = numbers.of(&"shop".into());
        assert_eq!(wanted(&cgroups, &pods, &numbers), HashMap::from([(7, number)]));
    }
}
