//! `/destinationCRs`: the Destination resources and their condition.

use std::sync::Arc;

use serde::Serialize;

use super::status::Level;
use crate::api::destination::{Condition, Destination};

const AVAILABLE: &str = "Available";

/// One Destination resource. The names of the fields are what monitoring tools look for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Row {
    // In this order they are sorted.
    pub(super) namespace: String,
    pub(super) name: String,
    destination_ref: DestinationRef,
    creation_timestamp: String,
    /// `True`, `False`, or `Unknown` before the manager has looked at it.
    pub(super) available: String,
    pub(super) message: String,
    pub(super) reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct DestinationRef {
    name: String,
}

/// The answer as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Destinations {
    pub(super) status: Level,
    pub(super) custom_resources: Vec<Arc<Row>>,
}

impl Row {
    pub(super) fn of(cr: Destination) -> Self {
        let created = cr.metadata.creation_timestamp;
        let condition = cr.status.and_then(available).unwrap_or_default();
        Self {
            namespace: cr.metadata.namespace.unwrap_or_default(),
            name: cr.metadata.name.unwrap_or_default(),
            destination_ref: DestinationRef {
                name: cr.spec.destination_ref.name,
            },
            creation_timestamp: created.map(|time| time.0.to_string()).unwrap_or_default(),
            available: condition.status.unwrap_or_else(|| "Unknown".to_owned()),
            message: condition.message.unwrap_or_default(),
            reason: condition.reason.unwrap_or_default(),
        }
    }

    pub(super) fn is_available(&self) -> bool {
        self.available == "True"
    }

    pub(super) fn destination(&self) -> &str {
        &self.destination_ref.name
    }
}

/// The last one of its type.
fn available(status: crate::api::destination::DestinationStatus) -> Option<Condition> {
    let conditions = status.conditions.unwrap_or_default().into_iter().rev();
    let mut fitting = conditions.filter(|condition| condition.type_.as_deref() == Some(AVAILABLE));
    fitting.next()
}

impl Destinations {
    pub(super) fn of(mut rows: Vec<Arc<Row>>) -> Self {
        rows.sort();
        let available = rows.iter().filter(|row| row.is_available()).count();
        let status = match available {
            all if all == rows.len() => Level::Ok,
            0 => Level::Critical,
            _ => Level::Warning,
        };
        Self {
            status,
            custom_resources: rows,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn row(namespace: &str, name: &str, status: &Value) -> Arc<Row> {
        let cr = json!({
            "apiVersion": "destination.connectivity.api.sap/v1",
            "kind": "Destination",
            "metadata": {"namespace": namespace, "name": name, "creationTimestamp": "2022-08-26T11:05:30Z"},
            "spec": {"destinationRef": {"name": "backend"}},
            "status": status,
        });
        Arc::new(Row::of(serde_json::from_value(cr).unwrap()))
    }

    fn condition(status: &str) -> Value {
        json!({"conditions": [
            {"type": "Old", "status": "True"},
            {"type": "Available", "status": status, "reason": "ConfigurationSuccessful", "message": "Done."},
        ]})
    }

    #[test]
    fn names_and_values_are_those_that_tools_look_for() {
        let all = Destinations::of(vec![
            row("shop", "b", &json!({})),
            row("shop", "a", &condition("True")),
            row("bank", "z", &condition("False")),
        ]);
        let json = serde_json::to_value(&all).unwrap();
        assert_eq!(
            json,
            json!({
                "Status": "warning",
                "CustomResources": [
                    {
                        "Namespace": "bank", "Name": "z", "DestinationRef": {"name": "backend"},
                        "CreationTimestamp": "2022-08-26T11:05:30Z",
                        "Available": "False", "Message": "Done.", "Reason": "ConfigurationSuccessful",
                    },
                    {
                        "Namespace": "shop", "Name": "a", "DestinationRef": {"name": "backend"},
                        "CreationTimestamp": "2022-08-26T11:05:30Z",
                        "Available": "True", "Message": "Done.", "Reason": "ConfigurationSuccessful",
                    },
                    {
                        "Namespace": "shop", "Name": "b", "DestinationRef": {"name": "backend"},
                        "CreationTimestamp": "2022-08-26T11:05:30Z",
                        "Available": "Unknown", "Message": "", "Reason": "",
                    },
                ],
            })
        );
    }

    #[test]
    fn the_whole_is_as_good_as_its_parts() {
        let level = |statuses: &[&str]| {
            let rows = statuses.iter().map(|status| row("shop", "a", &condition(status)));
            Destinations::of(rows.collect()).status
        };
        assert_eq!(level(&[]), Level::Ok);
        assert_eq!(level(&["True", "True"]), Level::Ok);
        assert_eq!(level(&["True", "False"]), Level::Warning);
        assert_eq!(level(&["True", "Unknown"]), Level::Warning);
        assert_eq!(level(&["False", "Unknown"]), Level::Critical);
    }
}
