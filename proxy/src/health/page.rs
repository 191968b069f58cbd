//! The page for people.

use std::sync::Arc;

use super::destinations::{Destinations, Row};
use super::hooks::{NodeHook, NodeHooks};
use super::pods::{Part, Pod};
use super::status::{Component, Level, Status};
use crate::admin::html::{Document, Mark};
use crate::admin::probes::HookState;

pub(super) fn render(
    status: &Status,
    pods: &[Arc<Pod>],
    hooks: &NodeHooks,
    destinations: &Destinations,
) -> String {
    let mut page = Document::new("health");
    page.marked(mark(status.status), word(status.status));
    let components = &status.components;
    page.table(
        &["Component", "Status", ""],
        [
            ("HTTP", &components.http),
            ("TCP", &components.tcp),
            ("Manager", &components.manager),
        ]
        .into_iter()
        .map(|(name, component)| component_row(name, component)),
    );
    page.heading("Pods");
    page.table(
        &["Node", "Pod", "Part", "Ready", "Redirects connections"],
        pods.iter().map(|pod| pod_row(pod, hooks)),
    );
    page.heading("Destination resources");
    page.table(
        &[
            "Namespace",
            "Name",
            "Destination",
            "Available",
            "Reason",
            "Message",
        ],
        destinations
            .custom_resources
            .iter()
            .map(|row| destination_row(row)),
    );
    page.finish()
}

fn component_row(name: &str, component: &Component) -> (Mark, Vec<String>) {
    let message = component.message.clone().unwrap_or_default();
    let cells = vec![name.to_owned(), word(component.status).to_owned(), message];
    (mark(component.status), cells)
}

fn pod_row(pod: &Pod, hooks: &NodeHooks) -> (Mark, Vec<String>) {
    let place = pod.place();
    let hook = hooks
        .iter()
        .find(|hook| pod.part == Part::Agent && hook.place == place);
    let cells = vec![
        pod.node.clone().unwrap_or_else(|| "-".to_owned()),
        pod.name.clone(),
        part(pod.part).to_owned(),
        if pod.ready { "yes" } else { "no" }.to_owned(),
        redirects(pod.part, hook),
    ];
    let failed = hook.and_then(NodeHook::state) == Some(HookState::Failed);
    let mark = match (pod.ready, failed) {
        (false, _) => Mark::Attention,
        (true, true) => Mark::Warning,
        (true, false) => Mark::Ok,
    };
    (mark, cells)
}

fn part(part: Part) -> &'static str {
    match part {
        Part::Manager => "manager",
        Part::Agent => "agent",
        Part::Fallback => "fallback",
    }
}

fn redirects(part: Part, hook: Option<&NodeHook>) -> String {
    if part != Part::Agent {
        return "-".to_owned();
    }
    let Some(hook) = hook.and_then(|hook| hook.hook.as_ref()) else {
        return "not known".to_owned();
    };
    let reason = hook
        .reason
        .as_deref()
        .map_or_else(String::new, |reason| format!(": {reason}"));
    match hook.state {
        HookState::Working => "yes".to_owned(),
        HookState::Off => "off".to_owned(),
        HookState::Failed => format!("no{reason}"),
    }
}

fn destination_row(row: &Row) -> (Mark, Vec<String>) {
    let cells = vec![
        row.namespace.clone(),
        row.name.clone(),
        row.destination().to_owned(),
        row.available.clone(),
        row.reason.clone(),
        row.message.clone(),
    ];
    let mark = match row.available.as_str() {
        "True" => Mark::Ok,
        "False" => Mark::Attention,
        _ => Mark::Warning,
    };
    (mark, cells)
}

fn mark(level: Level) -> Mark {
    match level {
        Level::Ok => Mark::Ok,
        Level::Warning => Mark::Warning,
        Level::Critical => Mark::Attention,
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Ok => "ok",
        Level::Warning => "warning",
        Level::Critical => "critical",
    }
}
