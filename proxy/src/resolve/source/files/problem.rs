//! What is wrong with files, and where.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::ReadError;
use super::references;
use crate::resolve::destination::{Invalid, Warning};
use crate::resolve::source::document::Position;

/// A file, or a place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub file: Arc<Path>,
    pub position: Option<Position>,
}

impl Place {
    pub(super) fn file(path: &Path) -> Self {
        Self {
            file: path.into(),
            position: None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        match self.position {
            Some(Position { line, column }) => write!(f, ":{line}:{column}"),
            None => Ok(()),
        }
    }
}

/// Its text is the whole story: place, destination if known, what is wrong, what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub place: Place,
    /// Name of the destination as far as it is known.
    pub destination: Option<String>,
    pub cause: Cause,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if let Some(destination) = &self.destination {
            write!(f, "{destination}: ")?;
        }
        write!(f, "{}", self.cause)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    #[error("{0}")]
    Invalid(Invalid),
    /// A warning about a destination without name, which has no other place.
    #[error("{0}")]
    Hint(Warning),
    #[error("{property} {error}")]
    Reference {
        property: String,
        error: references::Error,
    },
    #[error("{property} is set twice, first in line {first}; remove one of them")]
    DuplicateProperty { property: String, first: usize },
    #[error("{property} is a list or a mapping; a value is a text, a number or a boolean")]
    NotAText { property: String },
    #[error(
        "the name is already taken by {name} in {first}, which stays in use; rename or remove one of them"
    )]
    DuplicateName { name: String, first: Place },
    #[error("not a destination; write its properties, one per line, like Name: my-destination")]
    NotADestination,
    #[error(
        "{0} beside destinationConfiguration is unknown; properties belong inside destinationConfiguration"
    )]
    BesideConfiguration(String),
    #[error("not valid {format}: {message}")]
    Syntax { format: &'static str, message: String },
    #[error("the file is empty; write a destination into it or remove it")]
    Empty,
    #[error("the file is not UTF-8 text; save it as UTF-8")]
    NotUtf8,
    #[error("the file {0}")]
    Unreadable(ReadError),
    #[error("no such file or folder; check the path")]
    NoSuchPath,
    #[error("the folder cannot be read: {0}; check its permissions")]
    FolderUnreadable(String),
    #[error(
        "the file's kind is unknown; name it *.yaml, *.yml, *.json, or *.properties for a key=value export"
    )]
    UnknownKind,
}

/// Made by [`super::load`]; the path of a folder counts for all files in it.
pub(super) fn concerns(troubled: &[PathBuf], file: &Path) -> bool {
    troubled
        .iter()
        .any(|path| path == file || Some(path.as_path()) == file.parent())
}
