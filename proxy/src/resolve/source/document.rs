//! What the formats have in common: a tree of texts with positions.

use zeroize::Zeroizing;

/// Line and column in characters, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

impl Position {
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

/// Values are overwritten when dropped, since any of them may be a secret.
pub(super) enum Node {
    Null,
    Text(Zeroizing<String>),
    List(Vec<Spanned<Node>>),
    Map(Vec<Entry>),
}

pub(super) struct Spanned<T> {
    pub(super) at: Position,
    pub(super) value: T,
}

pub(super) struct Entry {
    pub(super) key: Spanned<String>,
    pub(super) value: Spanned<Node>,
}

/// A text that is not what its file name says. Messages never quote the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub(super) at: Position,
    pub(super) message: String,
}

impl SyntaxError {
    pub(super) fn new(at: Position, message: impl Into<String>) -> Self {
        Self {
            at,
            message: message.into(),
        }
    }
}

/// More than any destination needs, and far from the end of the stack.
pub(super) const MAX_DEPTH: usize = 16;

pub(super) const TOO_DEEP: &str = "nested too deeply; a destination is a flat list of properties";

/// Finds positions for ascending offsets in one pass.
pub(super) struct Positions<'a> {
    rest: &'a str,
    offset: usize,
    position: Position,
}

impl<'a> Positions<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            rest: text,
            offset: 0,
            position: Position::START,
        }
    }

    /// `offset` is a character boundary, not smaller than the one asked for before.
    pub(super) fn at(&mut self, offset: usize) -> Position {
        let (passed, rest) = self.rest.split_at(offset - self.offset);
        for c in passed.chars() {
            if c == '\n' {
                self.position.line += 1;
                self.position.column = 1;
            } else {
                self.position.column += 1;
            }
        }
        self.rest = rest;
        self.offset = offset;
        self.position
    }
}
