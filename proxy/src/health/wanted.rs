//! How many nodes want an agent, as the controller of their `DaemonSet` counts them.

use k8s_openapi::api::apps::v1::DaemonSet;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::cluster::slim::Slim;

/// Their `DaemonSet`, as the chart names it.
pub const AGENTS: &str = "sap-transp-proxy";

/// The controller has looked at it, at least once.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Counted {
    desired_number_scheduled: Option<usize>,
    observed_generation: Option<i64>,
}

pub(super) type SlimDaemonSet = Slim<DaemonSet, IgnoredAny, Counted>;

/// None before they are counted.
pub(super) fn nodes(agents: SlimDaemonSet) -> Option<usize> {
    let counted = agents.status?;
    counted.observed_generation?;
    counted.desired_number_scheduled
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn nodes_are_known_once_they_are_counted() {
        let nodes = |status: Value| {
            let object = json!({"metadata": {"name": AGENTS}, "spec": {}, "status": status});
            nodes(serde_json::from_value(object).unwrap())
        };
        assert_eq!(
            nodes(json!({"desiredNumberScheduled": 3, "observedGeneration": 1, "numberReady": 0})),
            Some(3)
        );
        assert_eq!(nodes(json!({"desiredNumberScheduled": 0})), None);
        assert_eq!(nodes(Value::Null), None);
    }
}
