//! One JSON object per line, or the same as text for people.
//!
//! `time` (RFC 3339, UTC), `level`, `component` and `msg` come first, in text without their names,
//! then the fields of the line, then those of the spans around it, innermost first. Names that the
//! code uses for itself are written as operators know them: see [`key`].

use std::fmt::{self, Write as _};
use std::io::Write as _;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::FATAL;

pub(super) struct Lines<W> {
    component: &'static str,
    shape: Shape,
    writer: W,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Json,
    Text,
}

impl<W> Lines<W> {
    pub(super) fn new(component: &'static str, shape: Shape, writer: W) -> Self {
        Self {
            component,
            shape,
            writer,
        }
    }
}

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(outer) = span.extensions().get::<Fields>() {
                fields.extend(outer);
            }
        }
        let line = self.line(event, fields);
        // There is nobody to tell that nothing can be told.
        let _ = self.writer.make_writer_for(event.metadata()).write_all(&line);
    }
}

impl<W> Lines<W> {
    fn line(&self, event: &Event<'_>, mut fields: Fields) -> Vec<u8> {
        let target = fields.target.take();
        let target = target.as_deref().unwrap_or(event.metadata().target());
        let level = level(*event.metadata().level(), target);
        if target != FATAL {
            fields.others.push(("target", target.into()));
        }
        match self.shape {
            Shape::Json => self.json(level, &fields),
            Shape::Text => self.text(level, &fields).into_bytes(),
        }
    }

    fn json(&self, level: &str, fields: &Fields) -> Vec<u8> {
        let mut line = Line::default();
        line.field("time", &now().into());
        line.field("level", &level.into());
        line.field("component", &self.component.into());
        line.field("msg", &fields.message.as_str().into());
        for (key, value) in &fields.others {
            line.field(key, value);
        }
        line.finish()
    }

    fn text(&self, level: &str, fields: &Fields) -> String {
        let (level, message) = (level.to_uppercase(), Plain(&fields.message));
        let mut line = format!("{} {level:>5} {} {message}", now(), self.component);
        for (key, value) in &fields.others {
            // Writing to a string cannot fail.
            let _ = match value {
                Value::String(text) if is_word(text) => write!(line, " {key}={text}"),
                other => write!(line, " {key}={}", Plain(&other.to_string())),
            };
        }
        line.push('\n');
        line
    }
}

/// Text that stays on its line and tells no terminal what to do.
struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| {
            if character.is_control() {
                write!(f, "{}", character.escape_default())
            } else {
                f.write_char(character)
            }
        })
    }
}

/// Whether it can be told from what is beside it without quotes.
fn is_word(text: &str) -> bool {
    let is_in_the_way = |character: char| {
        character.is_whitespace() || character.is_control() || matches!(character, '"' | '=')
    };
    !text.is_empty() && !text.contains(is_in_the_way)
}

fn now() -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

fn level(level: Level, target: &str) -> &'static str {
    match level {
        _ if target == FATAL => "fatal",
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// An object that grows.
#[derive(Default)]
struct Line(Vec<u8>);

impl Line {
    fn field(&mut self, key: &str, value: &Value) {
        self.0.push(if self.0.is_empty() { b'{' } else { b',' });
        self.value(&Value::from(key));
        self.0.push(b':');
        self.value(value);
    }

    fn value(&mut self, value: &Value) {
        serde_json::to_writer(&mut self.0, value).expect("a vector takes every value");
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.extend(b"}\n");
        self.0
    }
}

/// What a line or a span says.
#[derive(Default)]
struct Fields {
    message: String,
    /// Lines of the crate `log` carry the real one as a field.
    target: Option<String>,
    others: Vec<(&'static str, Value)>,
}

impl Fields {
    /// The inner ones win.
    fn extend(&mut self, outer: &Self) {
        for (key, value) in &outer.others {
            if !self.others.iter().any(|(known, _)| known == key) {
                self.others.push((key, value.clone()));
            }
        }
    }

    fn add(&mut self, field: &Field, value: Value) {
        let Some(key) = key(field.name()) else { return };
        match self.others.iter_mut().find(|(known, _)| *known == key) {
            Some((_, known)) => *known = value,
            None => self.others.push((key, value)),
        }
    }
}

/// How a field is called in the object; nothing for what the crate `log` adds about itself.
fn key(name: &'static str) -> Option<&'static str> {
    Some(match name {
        "error" => "err",
        "log.module_path" | "log.file" | "log.line" => return None,
        // Those names mean something else in every line.
        "time" => "field.time",
        "level" => "field.level",
        "component" => "field.component",
        "msg" => "field.msg",
        "target" => "field.target",
        name => name,
    })
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            "log.target" => self.target = Some(value.to_owned()),
            _ => self.add(field, value.into()),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// What is written meanwhile.
    fn said(shape: Shape, say: impl FnOnce()) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        let writer = Arc::new(file.reopen().unwrap());
        let subscriber = tracing_subscriber::registry().with(Lines::new("manager", shape, writer));
        tracing::subscriber::with_default(subscriber, say);
        std::fs::read_to_string(file.path()).unwrap()
    }

    /// The lines that are written meanwhile, without their time.
    fn lines(say: impl FnOnce()) -> Vec<Value> {
        let text = said(Shape::Json, say);
        let line = |line: &str| {
            let mut object: Value = serde_json::from_str(line).unwrap();
            let time = object.as_object_mut().unwrap().shift_remove("time").unwrap();
            assert!(is_rfc3339(time.as_str().unwrap()), "{time}");
            object
        };
        text.lines().map(line).collect()
    }

    fn is_rfc3339(time: &str) -> bool {
        let digits: String = time.chars().filter(char::is_ascii_digit).collect();
        digits.len() == 20 && time.len() == 27 && &time[10..11] == "T" && time.ends_with('Z')
    }

    #[test]
    fn a_line_is_an_object_with_the_names_that_operators_know() {
        let lines = lines(|| {
            tracing::warn!(
                target: "transparent_proxy::flow",
                request_id = "abc-1",
                destination = %"shop/my-dest",
                error = %"connection refused",
                status = 502_u16,
                "request failed"
            );
        });
        assert_eq!(
            lines,
            [json!({
                "level": "warn",
                "component": "manager",
                "msg": "request failed",
                "request_id": "abc-1",
                "destination": "shop/my-dest",
                "err": "connection refused",
                "status": 502,
                "target": "transparent_proxy::flow",
            })]
        );
    }

    #[test]
    fn whatever_is_said_stays_one_line_of_json() {
        let lines = lines(|| {
            tracing::info!(quote = "\"", float = f64::NAN, "first\nsecond \u{1b}[31m \"x\"");
        });
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["msg"], "first\nsecond \u{1b}[31m \"x\"");
        assert_eq!(
            (&lines[0]["quote"], &lines[0]["float"]),
            (&json!("\""), &Value::Null)
        );
    }

    #[test]
    fn fields_of_spans_are_told_once_and_never_instead_of_the_lines_own() {
        let lines = lines(|| {
            let outer = tracing::info_span!("outer", conn_id = 1, tenant = "acme");
            let inner =
                tracing::info_span!(parent: &outer, "inner", conn_id = 2, step = tracing::field::Empty);
            inner.record("step", "dial");
            inner.in_scope(|| tracing::debug!(tenant = "globex", "inside"));
        });
        assert_eq!(
            (&lines[0]["conn_id"], &lines[0]["tenant"], &lines[0]["step"]),
            (&json!(2), &json!("globex"), &json!("dial"))
        );
    }

    #[test]
    fn no_field_takes_the_place_of_a_name_that_every_line_has() {
        let lines = lines(|| tracing::error!(level = "debug", msg = 1, "changed"));
        assert_eq!(
            (&lines[0]["level"], &lines[0]["msg"]),
            (&json!("error"), &json!("changed"))
        );
        assert_eq!(lines[0]["field.level"], "debug");
    }

    #[test]
    fn the_last_words_have_a_level_of_their_own() {
        let lines = lines(|| tracing::error!(target: FATAL, "the end"));
        assert_eq!(
            lines,
            [json!({"level": "fatal", "component": "manager", "msg": "the end"})]
        );
    }

    #[test]
    fn text_says_the_same_for_people() {
        let text = said(Shape::Text, || {
            let span = tracing::info_span!("request", request_id = "abc-1");
            span.in_scope(|| tracing::warn!(target: "transparent_proxy::flow", error = %"no route", status = 502, "failed"));
            tracing::error!(target: FATAL, "the end");
        });
        let lines: Vec<(&str, &str)> = text.lines().map(|line| line.split_once(' ').unwrap()).collect();
        assert!(lines.iter().all(|(time, _)| is_rfc3339(time)), "{text}");
        assert_eq!(
            lines.iter().map(|(_, rest)| *rest).collect::<Vec<_>>(),
            [
                " WARN manager failed err=\"no route\" status=502 request_id=abc-1 target=transparent_proxy::flow",
                "FATAL manager the end",
            ]
        );
    }

    #[test]
    fn whatever_is_said_in_text_stays_one_line() {
        let text = said(Shape::Text, || {
            tracing::info!(
                quoted = "a\nb=\"c\"",
                empty = "",
                "first\nsecond \u{1b}[31m \u{9b}1m"
            );
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!text.trim_end().contains(char::is_control), "{text:?}");
        assert!(text.contains(r#"quoted="a\nb=\"c\"" empty="" "#), "{text}");
    }
}
