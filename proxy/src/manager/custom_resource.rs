//! Destination CRs as they come from the API server.

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use crate::api::condition::{AVAILABLE, REFUSAL, Verdict};
use crate::api::destination::{Condition, Destination, DestinationSpec, DestinationStatus};
use crate::api::labels;
use crate::cluster::slim::Slim;
use crate::cluster::watch::Key;

/// A Destination whose parts are understood one by one, so that one that is broken, or newer than
/// this program, is alone in its misery.
pub(super) type Wire = Slim<Destination, Value, Value>;

/// What is kept of a Destination CR.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CustomResource {
    pub(super) uid: String,
    /// Writes are conditional on it.
    pub(super) version: String,
    pub(super) created: Timestamp,
    /// Somebody's finalizer holds it back; for us it is gone.
    pub(super) is_deleted: bool,
    pub(super) destination: Box<Destination>,
    /// Why the specification is not understood.
    pub(super) broken: Option<String>,
}

impl CustomResource {
    pub(super) fn read(wire: Wire) -> Self {
        let mut meta = wire.metadata;
        let (spec, broken) = match DestinationSpec::understand(wire.spec) {
            Ok(spec) => (spec, None),
            Err(error) => (DestinationSpec::default(), Some(error)),
        };
        let status = wire.status.and_then(|status| serde_json::from_value(status).ok());
        let uid = meta.uid.take().unwrap_or_default();
        let version = meta.resource_version.take().unwrap_or_default();
        let created = meta
            .creation_timestamp
            .take()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        let is_deleted = meta.deletion_timestamp.take().is_some();
        // Tools leave copies of the whole object in annotations.
        if let Some(annotations) = &mut meta.annotations {
            annotations.retain(|key, _| key == labels::TENANT_SUBDOMAINS);
        }
        meta.labels = None;
        meta.owner_references = None;
        Self {
            uid,
            version,
            created,
            is_deleted,
            destination: Box::new(Destination {
                metadata: meta,
                spec,
                status,
            }),
            broken,
        }
    }

    /// Whether there is anything new for Services and conditions. Our own writes of the status are not.
    pub(super) fn means_the_same(&self, other: &Self) -> bool {
        let meta = |cr: &Self| {
            let meta = &cr.destination.metadata;
            (meta.generation, meta.annotations.clone())
        };
        self.uid == other.uid && self.is_deleted == other.is_deleted && meta(self) == meta(other)
    }

    /// Whether users are told this already.
    pub(super) fn says(&self, verdict: &Verdict) -> bool {
        self.said() == Some(as_said(verdict))
    }

    /// The same, whatever the API server's own words in the message are.
    pub(super) fn says_in_other_words(&self, verdict: &Verdict) -> bool {
        self.said().map(without_refusal) == Some(without_refusal(as_said(verdict)))
    }

    fn said(&self) -> Option<[&str; 4]> {
        let [condition] = self.conditions()? else {
            return None;
        };
        let said = [
            &condition.type_,
            &condition.status,
            &condition.reason,
            &condition.message,
        ];
        Some(said.map(|text| text.as_deref().unwrap_or_default()))
    }

    fn conditions(&self) -> Option<&[Condition]> {
        let status: &DestinationStatus = self.destination.status.as_ref()?;
        status.conditions.as_deref()
    }
}

fn as_said(verdict: &Verdict) -> [&str; 4] {
    [
        AVAILABLE,
        status(verdict),
        verdict.reason.as_str(),
        &verdict.message,
    ]
}

fn without_refusal(said: [&str; 4]) -> [&str; 4] {
    said.map(|text| text.split_once(REFUSAL).map_or(text, |(ours, _)| ours))
}

/// As conditions spell it.
pub(super) fn status(verdict: &Verdict) -> &'static str {
    if verdict.status { "True" } else { "False" }
}

/// Which of two CRs of the same name keeps it: the older one, then the one in the smaller namespace.
pub(super) fn precedence<'a>(key: &'a Key, cr: &'a CustomResource) -> impl Ord + 'a {
    (cr.created, &key.namespace, &cr.uid)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> CustomResource {
        CustomResource::read(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn a_resource_that_is_not_understood_is_kept_with_the_reason() {
        let cr = read(json!({
            "metadata": {"name": "a", "namespace": "b", "uid": "u", "resourceVersion": "7"},
            "spec": {"destinationRef": {"name": "d", "level": "galaxy"}},
        }));
        assert!(cr.broken.as_ref().unwrap().contains("galaxy"), "{:?}", cr.broken);
        assert_eq!((cr.uid.as_str(), cr.version.as_str()), ("u", "7"));
    }

    #[test]
    fn only_what_is_needed_of_the_metadata_is_kept() {
        let cr = read(json!({
            "metadata": {
                "name": "a",
                "namespace": "b",
                "labels": {"x": "y"},
                "annotations": {
                    "kubectl.kubernetes.io/last-applied-configuration": "{}",
                    (labels::TENANT_SUBDOMAINS): "[]",
                },
            },
            "spec": {"destinationRef": {"name": "d"}},
        }));
        let meta = cr.destination.metadata;
        assert_eq!(meta.labels, None);
        assert_eq!(
            meta.annotations.unwrap().into_keys().collect::<Vec<_>>(),
            [labels::TENANT_SUBDOMAINS]
        );
    }

    #[test]
    fn a_change_of_the_status_alone_means_nothing_new() {
        let with = |status: Value, generation: u32| {
            read(json!({
                "metadata": {"name": "a", "uid": "u", "generation": generation},
                "spec": {"destinationRef": {"name": "d"}},
                "status": status,
            }))
        };
        let before = with(json!({}), 1);
        let after = with(json!({"conditions": []}), 1);
        assert!(before != after && before.means_the_same(&after));
        assert!(!before.means_the_same(&with(json!({}), 2)));
    }

    #[test]
    fn what_is_said_is_recognised() {
        let verdict = Verdict::failed("No.");
        let condition = json!({
            "type": "Available",
            "status": "False",
            "reason": "ConfigurationFailed",
            "message": verdict.message,
        });
        let with = |conditions: Value| {
            read(json!({
                "metadata": {"name": "a"},
                "spec": {"destinationRef": {"name": "d"}},
                "status": {"conditions": conditions},
            }))
        };
        assert!(with(json!([condition])).says(&verdict));
        assert!(!with(json!([])).says(&verdict));
        assert!(!with(json!([condition, condition])).says(&verdict));
        assert!(!with(json!([condition])).says(&Verdict::failed("Yes.")));
    }

    #[test]
    fn of_two_of_one_age_that_in_the_first_namespace_has_the_name() {
        let cr = |created: &str, uid: &str| {
            read(json!({
                "metadata": {"name": "a", "uid": uid, "creationTimestamp": created},
                "spec": {"destinationRef": {"name": "d"}},
            }))
        };
        let (old, young) = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z");
        let before = |one: (&str, &CustomResource), other: (&str, &CustomResource)| {
            let (first, second) = (Key::new(one.0, "a"), Key::new(other.0, "a"));
            let (first, second) = (precedence(&first, one.1), precedence(&second, other.1));
            first.cmp(&second).is_lt() && second.cmp(&first).is_gt()
        };
        assert!(before(("z", &cr(old, "2")), ("b", &cr(young, "1"))));
        assert!(before(("b", &cr(old, "2")), ("z", &cr(old, "1"))));
        assert!(before(("b", &cr(old, "1")), ("b", &cr(old, "2"))));
    }
}
