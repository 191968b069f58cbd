//! What the file says: `log:`, and below it `level: info`. Other keys may stand beside.

use saphyr_parser::{Event, Parser, ScanError};

use super::Error;
use crate::telemetry::logging::Level;

/// A file with one line of content has no reason to be longer.
pub(super) const LONGEST: u64 = 64 << 10;

const PATH: [&str; 2] = ["log", "level"];

pub(super) fn text(level: Level) -> String {
    format!("log:\n  level: {level}\n")
}

pub(super) fn level(text: &str) -> Result<Level, Error> {
    let found = find(text).map_err(|error| Error::Syntax {
        line: error.marker().line(),
        message: error.info().to_owned(),
    })?;
    Ok(found.ok_or(Error::Missing)?.parse()?)
}

/// A mapping with the key that was read last, or a list.
enum Inside {
    Map(Option<String>),
    List,
}

/// The value at [`PATH`]. The rest of the file is read as well, since it may be broken.
fn find(text: &str) -> Result<Option<String>, ScanError> {
    let mut parser = Parser::new_from_str(text);
    let mut inside: Vec<Inside> = Vec::new();
    let mut found = None;
    while let Some(event) = parser.next_event() {
        match event?.0 {
            Event::MappingStart(..) => inside.push(Inside::Map(None)),
            Event::SequenceStart(..) => inside.push(Inside::List),
            Event::MappingEnd | Event::SequenceEnd => {
                inside.pop();
                value_ended(&mut inside);
            }
            Event::Scalar(text, ..) => {
                if let Some(Inside::Map(key @ None)) = inside.last_mut() {
                    *key = Some(text.into_owned());
                    continue;
                }
                if is_at_path(&inside) {
                    found.get_or_insert_with(|| text.into_owned());
                }
                value_ended(&mut inside);
            }
            Event::Alias(_) => value_ended(&mut inside),
            _ => {}
        }
    }
    Ok(found)
}

/// The next thing in a mapping is a key again; a key that is no text counts as one, too.
fn value_ended(inside: &mut [Inside]) {
    if let Some(Inside::Map(key)) = inside.last_mut() {
        *key = if key.is_some() { None } else { Some(String::new()) };
    }
}

fn is_at_path(inside: &[Inside]) -> bool {
    let keys = inside.iter().map(|inside| match inside {
        Inside::Map(key) => key.as_deref(),
        Inside::List => None,
    });
    keys.eq(PATH.map(Some))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(level(&text(Level::Fatal)).unwrap(), Level::Fatal);
    }

    #[test]
    fn the_level_is_found_however_it_is_written() {
        for text in [
            "log:\n  level: DEBUG",
            "log: {level: debug}",
            "---\n# quiet\nlog:\n    format: json\n    level: \"Debug\" # please\nother: [level, {log: 1}]\n",
            "? [log]\n: {level: info}\nlog:\n  fields: {level: warn}\n  level: debug\n",
            r#"{"log": {"level": "debug"}}"#,
        ] {
            assert_eq!(level(text).unwrap(), Level::Debug, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_told() {
        for (text, message) in [
            ("", "it has no key `log` with a key `level` below it"),
            ("level: debug", "it has no key"),
            ("- log:\n    level: debug", "it has no key"),
            ("log: level", "it has no key"),
            ("log:\n  level: [debug]", "it has no key"),
            ("log:\n  level: loud", "the log levels are trace, debug"),
            ("log:\n  level:", "the log levels are trace, debug"),
            ("log:\n  level: debug\nx: {", "it is not YAML: line 4:"),
        ] {
            let error = level(text).unwrap_err().to_string();
            assert!(error.starts_with(message), "{text:?}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_strange(text in "[ :{}\\[\\]?!*&,\n\t\"'#a-zA-Z-]{0,60}") {
            let _ = level(&text);
        }
    }
}
