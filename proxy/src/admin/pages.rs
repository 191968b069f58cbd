//! The pages for people.

use std::borrow::Cow;

use super::html::{Document, Escaped, Mark};
use super::status::{Phase, Status};
use crate::telemetry::connections::Snapshot;

pub(super) const INDEX: &str = "<!doctype html><html lang=\"en\"><title>transparent-proxy</title><h1>transparent-proxy</h1><ul>\
     <li><a href=\"/status\">status</a><li><a href=\"/debug/connections\">open connections</a>\
     <li><a href=\"/metrics\">metrics</a><li><a href=\"/log-level\">log level</a><li><a href=\"/healthz\">alive</a><li><a href=\"/readyz\">ready</a></ul></html>\n";

pub(super) fn status(status: &Status, phase: Phase, pending: &[Cow<'_, str>], open: usize) -> String {
    let mut page = Document::new("status");
    page.paragraph(format_args!(
        "{} {}: <b>{}</b>",
        Escaped(&status.role),
        Escaped(&status.version),
        phase.as_str()
    ));
    if !pending.is_empty() {
        page.paragraph(format_args!("waiting for {}", Escaped(&pending.join(", "))));
    }
    page.paragraph(format_args!(
        "<a href=\"/debug/connections\">{open} open connections</a>"
    ));
    page.table(
        &["", ""],
        status
            .facts
            .iter()
            .map(|fact| (attention(!fact.ok), vec![fact.name.clone(), fact.value.clone()])),
    );
    page.table(
        &["Destination", "Virtual IP", "Port", "Type", "Target", "Remarks"],
        status.destinations.iter().map(|row| {
            let cells = vec![
                row.name.clone(),
                or_dash(row.virtual_ip.clone()),
                or_dash(row.port.map(|port| port.to_string())),
                or_dash(row.r#type.clone()),
                or_dash(row.target.clone()),
                row.warnings.join("; "),
            ];
            (attention(!row.warnings.is_empty()), cells)
        }),
    );
    page.finish()
}

fn attention(needed: bool) -> Mark {
    if needed { Mark::Attention } else { Mark::None }
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

pub(super) fn connections(open: &[Snapshot]) -> String {
    let mut page = Document::new("open connections");
    page.table(
        &[
            "Id",
            "Protocol",
            "Source",
            "Resource",
            "Destination",
            "Target",
            "State",
            "Age",
            "Idle",
            "Bytes from app",
            "Bytes from target",
        ],
        open.iter().map(|one| {
            let cells = vec![
                one.id.to_string(),
                one.protocol.clone().into_owned(),
                one.source.to_string(),
                or_dash(one.cr.clone()),
                one.destination.clone(),
                one.target.clone(),
                one.state.as_str().to_owned(),
                format!("{:.1} s", one.age_seconds),
                format!("{:.1} s", one.idle_seconds),
                or_dash(one.bytes_from_app.map(|bytes| bytes.to_string())),
                or_dash(one.bytes_from_target.map(|bytes| bytes.to_string())),
            ];
            (Mark::None, cells)
        }),
    );
    page.finish()
}
