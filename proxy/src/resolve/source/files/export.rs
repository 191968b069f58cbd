//! The `key=value` text that the cockpit exports: Java's properties format.
//!
//! See `java.util.Properties.load`. Two liberties of it are refused, because in a
//! destination they are mistakes: a key without `=` or `:`, and unknown `\u` escapes.

use std::iter::Peekable;
use std::str::CharIndices;

use zeroize::Zeroizing;

use crate::resolve::source::document::{Entry, Node, Position, Positions, Spanned, SyntaxError};

const NO_SEPARATOR: &str = "a line without \"=\"; each line is PROPERTY=VALUE, a comment (\"#\") or blank";
const BAD_UNICODE: &str = "a \\u escape that is not followed by the four hexadecimal digits of a character";

pub(super) fn parse(text: &str) -> Result<Spanned<Node>, SyntaxError> {
    let mut scan = Scan {
        chars: text.char_indices().peekable(),
        positions: Positions::new(text),
        end: text.len(),
    };
    let mut entries = Vec::new();
    while let Some(entry) = scan.entry()? {
        entries.push(entry);
    }
    let at = entries.first().map_or(Position::START, |entry| entry.key.at);
    let value = Node::Map(entries);
    Ok(Spanned { at, value })
}

struct Scan<'a> {
    chars: Peekable<CharIndices<'a>>,
    positions: Positions<'a>,
    end: usize,
}

impl Scan<'_> {
    fn entry(&mut self) -> Result<Option<Entry>, SyntaxError> {
        self.skip_blank_and_comments();
        let Some(&(start, _)) = self.chars.peek() else {
            return Ok(None);
        };
        let at = self.positions.at(start);
        let key = self.text(at, |c| matches!(c, '=' | ':') || is_blank(c))?;
        self.skip_while(is_blank);
        if self.chars.next_if(|(_, c)| matches!(c, '=' | ':')).is_none() {
            return Err(SyntaxError::new(at, NO_SEPARATOR));
        }
        self.skip_while(is_blank);
        let offset = self.chars.peek().map_or(self.end, |(offset, _)| *offset);
        let value_at = self.positions.at(offset);
        let value = self.text(value_at, |_| false)?;
        Ok(Some(Entry {
            key: Spanned {
                at,
                value: key.to_string(),
            },
            value: Spanned {
                at: value_at,
                value: Node::Text(value),
            },
        }))
    }

    fn skip_blank_and_comments(&mut self) {
        loop {
            self.skip_while(|c| is_blank(c) || is_line_end(c));
            if self.chars.next_if(|(_, c)| matches!(c, '#' | '!')).is_none() {
                return;
            }
            self.skip_while(|c| !is_line_end(c));
        }
    }

    fn skip_while(&mut self, skipped: impl Fn(char) -> bool) {
        while self.chars.next_if(|(_, c)| skipped(*c)).is_some() {}
    }

    /// Up to an unescaped `end` or the end of the line, with escapes resolved.
    fn text(&mut self, at: Position, end: impl Fn(char) -> bool) -> Result<Zeroizing<String>, SyntaxError> {
        let mut text = Zeroizing::new(String::new());
        while let Some((_, c)) = self.chars.next_if(|(_, c)| !is_line_end(*c) && !end(*c)) {
            if c == '\\' {
                self.escape(&mut text)
                    .ok_or_else(|| SyntaxError::new(at, BAD_UNICODE))?;
            } else {
                text.push(c);
            }
        }
        Ok(text)
    }

    fn escape(&mut self, text: &mut String) -> Option<()> {
        let Some((_, c)) = self.chars.next() else {
            return Some(());
        };
        match c {
            'u' => text.push(self.unicode()?),
            't' => text.push('\t'),
            'n' => text.push('\n'),
            'r' => text.push('\r'),
            'f' => text.push('\u{c}'),
            '\r' => {
                self.chars.next_if(|(_, c)| *c == '\n');
                self.skip_while(is_blank);
            }
            '\n' => self.skip_while(is_blank),
            other => text.push(other),
        }
        Some(())
    }

    /// One UTF-16 unit, or the two of a surrogate pair.
    fn unicode(&mut self) -> Option<char> {
        let first = self.unit()?;
        if !(0xD800..0xDC00).contains(&first) {
            return char::from_u32(first.into());
        }
        self.chars.next_if(|(_, c)| *c == '\\')?;
        self.chars.next_if(|(_, c)| *c == 'u')?;
        let second = self.unit()?;
        char::decode_utf16([first, second]).next()?.ok()
    }

    fn unit(&mut self) -> Option<u16> {
        let mut unit = 0;
        for _ in 0..4 {
            let (_, digit) = self.chars.next_if(|(_, c)| c.is_ascii_hexdigit())?;
            unit = unit * 16 + u16::try_from(digit.to_digit(16)?).ok()?;
        }
        Some(unit)
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{c}')
}

fn is_line_end(c: char) -> bool {
    matches!(c, '\n' | '\r')
}
