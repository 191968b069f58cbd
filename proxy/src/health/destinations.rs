//! `/destinationCRs`: the Destination resources and their condition.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::status::Level;
use crate::api::destination::{Condition, Destination, DestinationSpec, DestinationStatus};
use crate::cluster::slim::Slim;

const AVAILABLE: &str = "Available";
const UNKNOWN: &str = "Unknown";

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

/// A Destination whose parts are understood one by one.
pub(super) type Wire = Slim<Destination, Value, Value>;

impl Row {
    pub(super) fn of(cr: Wire) -> Self {
        let created = cr.metadata.creation_timestamp;
        let status = cr.status.and_then(|status| serde_json::from_value(status).ok());
        let condition = status.and_then(available).unwrap_or_default();
        let named = cr.spec.as_ref().and_then(destination_of);
        let row = Self {
            namespace: cr.metadata.namespace.unwrap_or_default(),
            name: cr.metadata.name.unwrap_or_default(),
            destination_ref: DestinationRef {
                name: named.unwrap_or_default(),
            },
            creation_timestamp: created.map(|time| time.0.to_string()).unwrap_or_default(),
            available: condition.status.unwrap_or_else(|| UNKNOWN.to_owned()),
            message: condition.message.unwrap_or_default(),
            reason: condition.reason.unwrap_or_default(),
        };
        match DestinationSpec::understand(cr.spec) {
            // Nobody serves it, whatever was said of it before it became like this.
            Err(why) if row.available != "False" => row.not_understood(&why),
            _ => row,
        }
    }

    fn not_understood(self, why: &str) -> Self {
        Self {
            available: UNKNOWN.to_owned(),
            message: format!("The Destination CR is not understood: {why}."),
            reason: String::new(),
            ..self
        }
    }

    pub(super) fn is_available(&self) -> bool {
        self.available == "True"
    }

    pub(super) fn destination(&self) -> &str {
        &self.destination_ref.name
    }
}

/// Also of a specification that is not understood as a whole.
fn destination_of(spec: &Value) -> Option<String> {
    let name = spec.pointer("/destinationRef/name")?.as_str()?;
    Some(name.to_owned())
}

/// The last one of its type.
fn available(status: DestinationStatus) -> Option<Condition> {
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
    use serde_json::json;

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
    fn what_is_not_understood_is_unknown_unless_it_is_known_not_to_work() {
        let row = |status: &Value| {
            let cr = json!({
                "metadata": {"namespace": "shop", "name": "a"},
                "spec": {"destinationRef": {"name": "backend", "level": "galaxy"}},
                "status": status,
            });
            Row::of(serde_json::from_value(cr).unwrap())
        };
        for status in [json!({}), condition("True"), json!({"conditions": "none"})] {
            let row = row(&status);
            assert_eq!((&*row.available, row.destination()), ("Unknown", "backend"));
            assert!(row.message.contains("galaxy"), "{}", row.message);
        }
        let row = row(&condition("False"));
        assert_eq!((&*row.available, &*row.message), ("False", "Done."));
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
