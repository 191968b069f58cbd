//! YAML with positions. Aliases, tags and merge keys are refused: a destination needs
//! none of them, and aliases are how small files grow huge.

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput};
use zeroize::Zeroizing;

use crate::resolve::source::document::{Entry, MAX_DEPTH, Node, Position, Spanned, SyntaxError, TOO_DEEP};

const ALIAS: &str = "an alias (\"*\") is not supported; write the value again";
const TAG: &str = "a tag (\"!\") is not supported; put the value in quotes";
const MERGE: &str = "a merge key (\"<<\") is not supported; write the properties again";
const KEY: &str = "a key that is not a text; write PROPERTY: VALUE";

/// The documents of the stream; `---` separates them.
pub(in crate::resolve::source) fn parse(text: &str) -> Result<Vec<Spanned<Node>>, SyntaxError> {
    let mut events = Events(Parser::new_from_str(text));
    let mut documents = Vec::new();
    while let Some((event, span)) = events.next()? {
        let starts_node = !matches!(
            event,
            Event::Nothing
                | Event::StreamStart
                | Event::StreamEnd
                | Event::DocumentStart(_)
                | Event::DocumentEnd
        );
        if starts_node {
            documents.push(events.node(event, span, MAX_DEPTH)?);
        }
    }
    Ok(documents)
}

fn position(marker: &Marker) -> Position {
    Position {
        line: marker.line(),
        column: marker.col() + 1,
    }
}

struct Events<'a>(Parser<'a, StrInput<'a>>);

impl<'a> Events<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, SyntaxError> {
        self.0
            .next_event()
            .transpose()
            .map_err(|error| syntax_error(&error))
    }

    /// Inside a collection the parser always has one more event, or an error.
    fn next_inside(&mut self, start: Span) -> Result<(Event<'a>, Span), SyntaxError> {
        let ended = || SyntaxError::new(position(&start.start), "a list or mapping that is not closed");
        self.next()?.ok_or_else(ended)
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Spanned<Node>, SyntaxError> {
        let at = position(&span.start);
        let refuse = |message: &str| Err(SyntaxError::new(at, message));
        let value = match event {
            _ if depth == 0 => return refuse(TOO_DEEP),
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => return refuse(TAG),
            Event::Alias(_) => return refuse(ALIAS),
            Event::Scalar(text, style, _, None) => scalar(&text, style),
            Event::SequenceStart(_, None) => self.list(span, depth)?,
            Event::MappingStart(_, None) => self.map(span, depth)?,
            _ => return refuse("something that is not a value"),
        };
        Ok(Spanned { at, value })
    }

    fn list(&mut self, start: Span, depth: usize) -> Result<Node, SyntaxError> {
        let mut items = Vec::new();
        loop {
            match self.next_inside(start)? {
                (Event::SequenceEnd, _) => return Ok(Node::List(items)),
                (event, span) => items.push(self.node(event, span, depth - 1)?),
            }
        }
    }

    fn map(&mut self, start: Span, depth: usize) -> Result<Node, SyntaxError> {
        let mut entries = Vec::new();
        loop {
            let (event, span) = self.next_inside(start)?;
            let at = position(&span.start);
            let key = match event {
                Event::MappingEnd => return Ok(Node::Map(entries)),
                Event::Scalar(_, _, _, Some(_)) => return Err(SyntaxError::new(at, TAG)),
                Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<" => {
                    return Err(SyntaxError::new(at, MERGE));
                }
                Event::Scalar(text, ..) => text.into_owned(),
                Event::Alias(_) => return Err(SyntaxError::new(at, ALIAS)),
                _ => return Err(SyntaxError::new(at, KEY)),
            };
            let (event, span) = self.next_inside(start)?;
            let value = self.node(event, span, depth - 1)?;
            let key = Spanned { at, value: key };
            entries.push(Entry { key, value });
        }
    }
}

/// Plain scalars stay as written: `0123` and `1.0` may be passwords.
fn scalar(text: &str, style: ScalarStyle) -> Node {
    match (style, text) {
        (ScalarStyle::Plain, "" | "~" | "null" | "Null" | "NULL") => Node::Null,
        _ => Node::Text(Zeroizing::new(text.to_owned())),
    }
}

fn syntax_error(error: &ScanError) -> SyntaxError {
    let message = format!(
        "{}; check indentation, quotes and colons here and in the line above",
        error.info()
    );
    SyntaxError::new(position(error.marker()), message)
}
