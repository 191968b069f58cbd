//! What happened, for `kubectl describe` and for whoever collects events.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Resource as _;
use uuid::Uuid;

use super::super::plan::Saying;
use crate::api::destination::Destination;
use crate::api::labels;

/// The API server's limit, in bytes.
const LONGEST_NOTE: usize = 1024;

/// Names are at most 253 characters, and an identifier follows.
const LONGEST_NAME: usize = 200;

/// Says in an event what the condition says.
pub(super) fn of(saying: &Saying, pod: &str) -> Event {
    let verdict = &saying.verdict;
    let name = shortened(&saying.cr.name, LONGEST_NAME).trim_end_matches(['.', '-']);
    Event {
        metadata: ObjectMeta {
            namespace: Some(saying.cr.namespace.to_string()),
            name: Some(format!("{name}.{}", Uuid::new_v4().simple())),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(Timestamp::now())),
        type_: Some(if verdict.status { "Normal" } else { "Warning" }.to_owned()),
        action: Some("Configure".to_owned()),
        reason: Some(verdict.reason.as_str().to_owned()),
        note: Some(shortened(&verdict.message, LONGEST_NOTE).to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some(Destination::api_version(&()).into_owned()),
            kind: Some(Destination::kind(&()).into_owned()),
            namespace: Some(saying.cr.namespace.to_string()),
            name: Some(saying.cr.name.to_string()),
            uid: Some(saying.uid.clone()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(labels::MANAGER.to_owned()),
        reporting_instance: Some(pod.to_owned()),
        ..Event::default()
    }
}

fn shortened(text: &str, longest: usize) -> &str {
    &text[..text.floor_char_boundary(longest)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::condition::Verdict;
    use crate::cluster::watch::Key;

    #[test]
    fn long_names_and_messages_are_cut_to_what_is_allowed() {
        let saying = Saying {
            cr: Key::new("shop", &"long-name.".repeat(25)),
            uid: "u".to_owned(),
            version: "1".to_owned(),
            verdict: Verdict::failed("ä".repeat(1000)),
        };
        let event = of(&saying, "pod");
        assert!(event.note.unwrap().len() <= LONGEST_NOTE);
        let name = event.metadata.name.unwrap();
        assert!(name.len() <= 253 && !name.contains(".."), "{name}");
        assert_eq!(event.type_.as_deref(), Some("Warning"));
    }
}
