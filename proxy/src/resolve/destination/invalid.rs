//! What can be wrong with a destination, as sentences that follow the property's name.

use std::fmt;

use super::{Source, url};

/// A property that makes the destination unusable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} {problem}", property_name(property))]
pub struct Invalid {
    pub property: String,
    #[source]
    pub problem: Problem,
}

/// A property that was ignored or looks like a mistake; the destination works without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    pub property: String,
    /// Follows the property's name in a sentence.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", property_name(&self.property), self.message)
    }
}

/// Says what is wrong and what to do. `value` is made by [`quoted`], so it is short and printable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("is missing; {0}")]
    Missing(&'static str),
    #[error("is empty; {0}")]
    Empty(&'static str),
    #[error("is {value}, which is unknown; use {expected}")]
    Unknown { value: String, expected: &'static str },
    #[error("is {value}, which is not supported yet; {instead}")]
    NotSupportedYet { value: String, instead: &'static str },
    #[error("is not supported yet; {0}")]
    PropertyNotSupportedYet(&'static str),
    #[error("is {value}, which is not a boolean; write true or false")]
    NotBoolean { value: String },
    #[error("is {value}, which is not a whole number from {min} to {max}")]
    NotInRange { value: String, min: u64, max: u64 },
    #[error("is {value}; a name has 1 to 200 characters out of letters, digits, \"_\", \"-\" and \".\"")]
    NotAName { value: String },
    #[error("is {value}, which applications look up elsewhere; choose a name of its own")]
    ReservedName { value: String },
    #[error("{0}")]
    Url(url::Error),
    #[error("needs \"http://\" or \"https://\" in front; credentials are not sent to a guessed scheme")]
    SchemeMissing,
    #[error("contains {{tenant}}, but destinations from {0} have no tenant; write the whole URL")]
    TenantPlaceholder(Source),
    #[error(
        "contains a colon, which ends the user in Basic credentials (RFC 7617, section 2); use a user without colon"
    )]
    ColonInUser,
    #[error("contains a control character, perhaps a line break at the end; remove it")]
    ControlCharacter,
    #[error(
        "still has the placeholder that the cockpit writes in place of a secret; put the secret there{0}"
    )]
    RemovedOnExport(&'static str),
    #[error("contains \"${{{0}:\", which only destinations from files may; write the value itself")]
    Reference(&'static str),
    #[error("is not UTF-8 text")]
    NotText,
    #[error("is not valid JSON, line {line}, column {column}: {message}")]
    NotJson {
        line: usize,
        column: usize,
        message: String,
    },
    #[error("is not a JSON object with the properties of one destination")]
    NotAnObject,
    #[error("holds a destination as JSON, and so does {}; one Secret is one destination", property_name(.0))]
    SeveralDestinations(String),
    #[error("is a list or an object; a value is a text, a number or a boolean")]
    NotAValue,
    #[error("is set twice; remove one of them")]
    SetTwice,
    #[error("leads to the proxy's own loopback interface; write the host that runs the target system")]
    Loopback,
    #[error("is only possible with an https:// URL, but {url_property} is not https://")]
    NeedsHttps { url_property: &'static str },
    #[error("{0}")]
    Store(StoreError),
    #[error("names a store that cannot be used: {0}")]
    StoreContent(String),
}

/// Why a key store or trust store could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("is {0}, but there is no such file in the folder of the destination")]
    NotFound(String),
    /// The location is not shown, since it is a value of a Secret.
    #[error("names a key that the Secret does not have; add the store to the Secret under that name")]
    NoSuchKey,
    #[error(
        "is {0}, which leads out of the folder of the destination; put the file into that folder and write its name only"
    )]
    OutsideFolder(String),
    #[error("is {0}, which is not a regular file")]
    NotAFile(String),
    #[error("is {location}, which is larger than {limit} bytes")]
    TooLarge { location: String, limit: u64 },
    #[error("is {location}, which cannot be read: {reason}")]
    Unreadable { location: String, reason: String },
}

/// A property's name for a message: users make names up too, and a message is one line.
pub(crate) fn property_name(property: &str) -> String {
    let presentable = |c: char| c.is_ascii_graphic();
    if (1..=100).contains(&property.len()) && property.chars().all(presentable) {
        property.to_owned()
    } else {
        quoted(property)
    }
}

/// The first 200 characters of a value in quotes, with everything unprintable escaped.
pub(crate) fn quoted(value: &str) -> String {
    const LIMIT: usize = 200;
    let shown: String = value.chars().take(LIMIT).collect();
    let more = if value.chars().nth(LIMIT).is_some() {
        "…"
    } else {
        ""
    };
    format!("\"{}{more}\"", printable(&shown))
}

fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| match c {
            '"' | '\'' => vec![c],
            _ => c.escape_debug().collect(),
        })
        .collect()
}
