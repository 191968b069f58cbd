//! How much is logged, in the words that operators use.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{ACCESS, FATAL};

/// Everything at a level and all that is worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Level {
    Trace,
    Debug,
    #[default]
    Info,
    Warn,
    Error,
    /// Only what is said before the process ends itself.
    Fatal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log levels are trace, debug, info, warn, error and fatal")]
pub struct NoLevel;

impl Level {
    const ALL: [Self; 6] = [
        Self::Trace,
        Self::Debug,
        Self::Info,
        Self::Warn,
        Self::Error,
        Self::Fatal,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }

    /// For the filter. The access log is silent only where nothing else is said either.
    pub(super) fn directives(self) -> String {
        match self {
            Self::Fatal => format!("off,{ACCESS}=off,{FATAL}=error"),
            level => level.as_str().to_owned(),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// In any case of letters.
impl FromStr for Level {
    type Err = NoLevel;

    fn from_str(text: &str) -> Result<Self, NoLevel> {
        let is_meant = |level: &Self| level.as_str().eq_ignore_ascii_case(text);
        Self::ALL.into_iter().find(is_meant).ok_or(NoLevel)
    }
}

impl TryFrom<String> for Level {
    type Error = NoLevel;

    fn try_from(text: String) -> Result<Self, NoLevel> {
        text.parse()
    }
}

impl From<Level> for &'static str {
    fn from(level: Level) -> Self {
        level.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_in_any_case() {
        for level in Level::ALL {
            assert_eq!(level.as_str().parse(), Ok(level));
            assert_eq!(level.as_str().to_uppercase().parse(), Ok(level));
        }
        for text in ["", "off", "warning", "info ", "info,debug"] {
            assert_eq!(text.parse::<Level>(), Err(NoLevel), "{text}");
        }
    }
}
