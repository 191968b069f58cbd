//! JSON with positions: `serde_json` judges the syntax, then one walk finds the values.

use serde::de::IgnoredAny;
use zeroize::Zeroizing;

use super::document::{Entry, MAX_DEPTH, Node, Position, Positions, Spanned, SyntaxError, TOO_DEEP};

pub(super) fn parse(text: &str) -> Result<Spanned<Node>, SyntaxError> {
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        return Err(syntax_error(&error));
    }
    let mut walk = Walk {
        text,
        offset: 0,
        positions: Positions::new(text),
    };
    walk.node(MAX_DEPTH)
}

fn syntax_error(error: &serde_json::Error) -> SyntaxError {
    let text = error.to_string();
    let message = text.split(" at line ").next().unwrap_or(&text);
    let at = Position {
        line: error.line().max(1),
        column: error.column().max(1),
    };
    let message = format!("{message}; check quotes, commas and brackets here and in the line above");
    SyntaxError::new(at, message)
}

/// Walks over a text that is known to be JSON.
struct Walk<'a> {
    text: &'a str,
    offset: usize,
    positions: Positions<'a>,
}

impl Walk<'_> {
    fn node(&mut self, depth: usize) -> Result<Spanned<Node>, SyntaxError> {
        let first = self.next_byte();
        let at = self.positions.at(self.offset);
        if depth == 0 {
            return Err(SyntaxError::new(at, TOO_DEEP));
        }
        let value = match first {
            b'{' => self.map(depth)?,
            b'[' => self.list(depth)?,
            b'"' => Node::Text(self.string()?),
            _ => self.literal(),
        };
        Ok(Spanned { at, value })
    }

    fn map(&mut self, depth: usize) -> Result<Node, SyntaxError> {
        let mut entries = Vec::new();
        self.offset += 1;
        while self.next_byte() != b'}' {
            let at = self.positions.at(self.offset);
            let value = self.string()?.to_string();
            let key = Spanned { at, value };
            let value = self.node(depth - 1)?;
            entries.push(Entry { key, value });
        }
        self.offset += 1;
        Ok(Node::Map(entries))
    }

    fn list(&mut self, depth: usize) -> Result<Node, SyntaxError> {
        let mut items = Vec::new();
        self.offset += 1;
        while self.next_byte() != b']' {
            items.push(self.node(depth - 1)?);
        }
        self.offset += 1;
        Ok(Node::List(items))
    }

    fn string(&mut self) -> Result<Zeroizing<String>, SyntaxError> {
        let start = self.offset;
        let bytes = self.text.as_bytes();
        let mut end = start + 1;
        while bytes.get(end).is_some_and(|b| *b != b'"') {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        self.offset = end + 1;
        let quoted = self.text.get(start..=end).unwrap_or_default();
        // Only half a surrogate pair passes the first check and fails here.
        serde_json::from_str(quoted)
            .map(Zeroizing::new)
            .map_err(|error| SyntaxError::new(self.positions.at(start), syntax_error(&error).message))
    }

    /// Numbers and booleans, as written.
    fn literal(&mut self) -> Node {
        let rest = &self.text[self.offset..];
        let ends = |c: char| c.is_ascii_whitespace() || matches!(c, ',' | ']' | '}');
        let literal = &rest[..rest.find(ends).unwrap_or(rest.len())];
        self.offset += literal.len();
        match literal {
            "null" => Node::Null,
            _ => Node::Text(Zeroizing::new(literal.to_owned())),
        }
    }

    /// Skips what stands between tokens; the text's end reads as a closing bracket.
    fn next_byte(&mut self) -> u8 {
        let rest = &self.text.as_bytes()[self.offset..];
        let between = |b: &u8| b.is_ascii_whitespace() || matches!(b, b',' | b':');
        let skipped = rest.iter().take_while(|b| between(b)).count();
        self.offset += skipped;
        rest.get(skipped).copied().unwrap_or(b'}')
    }
}
