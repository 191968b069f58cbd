//! The pages for people.

use std::fmt::{self, Display, Write};

use super::status::{Phase, Status};
use crate::telemetry::connections::Snapshot;

pub(super) const INDEX: &str = "<!doctype html><html lang=\"en\"><title>transparent-proxy</title><h1>transparent-proxy</h1><ul>\
     <li><a href=\"/status\">status</a><li><a href=\"/debug/connections\">open connections</a>\
     <li><a href=\"/metrics\">metrics</a><li><a href=\"/log-level\">log level</a><li><a href=\"/healthz\">alive</a><li><a href=\"/readyz\">ready</a></ul></html>\n";

const STYLE: &str = "body{font-family:sans-serif;margin:2em}table{border-collapse:collapse}\
     td,th{border:1px solid #bbb;padding:.3em .6em;text-align:left}.attention{background:#fdd}";

pub(super) fn status(status: &Status, phase: Phase, pending: &[&str], open: usize) -> String {
    let mut page = Page::new("status");
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
            .map(|fact| (!fact.ok, vec![fact.name.clone(), fact.value.clone()])),
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
            (!row.warnings.is_empty(), cells)
        }),
    );
    page.finish()
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

pub(super) fn connections(open: &[Snapshot]) -> String {
    let mut page = Page::new("open connections");
    page.table(
        &[
            "Id",
            "Protocol",
            "Source",
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
                one.protocol.to_owned(),
                one.source.to_string(),
                one.destination.clone(),
                one.target.clone(),
                one.state.as_str().to_owned(),
                format!("{:.1} s", one.age_seconds),
                format!("{:.1} s", one.idle_seconds),
                one.bytes_from_app.to_string(),
                one.bytes_from_target.to_string(),
            ];
            (false, cells)
        }),
    );
    page.finish()
}

/// A page that grows. Writing to a `String` cannot fail.
struct Page(String);

impl Page {
    fn new(title: &str) -> Self {
        Self(format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>transparent-proxy: {title}</title>\
             <style>{STYLE}</style><h1>{title}</h1>"
        ))
    }

    /// `content` is HTML already.
    fn paragraph(&mut self, content: fmt::Arguments<'_>) {
        let _ = write!(self.0, "<p>{content}</p>");
    }

    /// Rows with a mark for those that need attention.
    fn table(&mut self, heads: &[&str], rows: impl Iterator<Item = (bool, Vec<String>)>) {
        self.0.push_str("<table><tr>");
        for head in heads {
            let _ = write!(self.0, "<th>{}", Escaped(head));
        }
        for (attention, cells) in rows {
            self.0.push_str(if attention {
                "<tr class=\"attention\">"
            } else {
                "<tr>"
            });
            for cell in cells {
                let _ = write!(self.0, "<td>{}", Escaped(&cell));
            }
        }
        self.0.push_str("</table><br>");
    }

    fn finish(mut self) -> String {
        self.0.push_str("</html>\n");
        self.0
    }
}

struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|char| match char {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            char => f.write_char(char),
        })
    }
}
