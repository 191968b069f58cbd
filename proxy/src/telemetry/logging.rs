//! Where log lines go and how they look.
//!
//! No level and no directive lets secrets in: our own code logs none, and libraries
//! stay at [`LIBRARIES`], because what they tell below is frames, headers and tickets
//! that they cannot know to be secret.

mod level;
mod lines;
mod panics;

pub use level::{Level, NoLevel};

use std::fs::File;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tracing::Metadata;
use tracing_subscriber::filter::{EnvFilter, FilterExt as _, FilterFn, ParseError, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, fmt, reload};

use self::lines::{Lines, Shape};

/// Target of the line at the end of each TCP connection.
pub const CONNECTION: &str = "transparent_proxy::connection";
/// Target of the line per HTTP request, which is only written where it is asked for; so it is
/// independent of the level, unless that names it.
pub const ACCESS: &str = "transparent_proxy::access";
/// Target of what is said before the process ends itself.
pub const FATAL: &str = "transparent_proxy::fatal";

/// The most that libraries may say.
const LIBRARIES: tracing::Level = tracing::Level::INFO;
/// It warns of answers that it does not understand by quoting them, and Secrets are answers. The
/// same failure is an error of the request, which whoever made it tells without.
const KUBE_CLIENT: tracing::Level = tracing::Level::ERROR;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("log level {level:?} is not understood")]
    Level {
        level: String,
        #[source]
        source: ParseError,
    },
    #[error("the log file {} cannot be opened", .path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("logging was started before")]
    AlreadyStarted(#[source] TryInitError),
    #[error("the log level cannot be changed any more")]
    Reload(#[source] reload::Error),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// A level (`info`), or directives as in `info,transparent_proxy::relay=trace`.
    pub level: String,
    pub format: Format,
    pub output: Output,
    /// Whose lines these are; said in every line, unless they are text for whoever started this.
    pub component: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Output {
    #[default]
    StandardError,
    /// Where container runtimes look for logs first.
    StandardOutput,
    /// Appended to.
    File(PathBuf),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    #[default]
    #[serde(alias = "console")]
    Text,
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: Format::Text,
            output: Output::StandardError,
            component: "run",
        }
    }
}

/// Changes the level at run time.
#[derive(Debug, Clone)]
pub struct LogControl(reload::Handle<EnvFilter, Registry>);

impl LogControl {
    fn set_level(&self, level: &str) -> Result<(), Error> {
        self.0.reload(filter(level)?).map_err(Error::Reload)
    }

    /// One level for everything.
    pub fn set(&self, level: Level) -> Result<(), Error> {
        self.set_level(&level.directives())
    }

    /// The directives in force.
    pub fn level(&self) -> String {
        // Logging has ended when the filter is gone.
        self.0
            .with_current(EnvFilter::to_string)
            .unwrap_or_else(|_gone| "off".to_owned())
    }
}

/// A control that changes nothing that is logged, while the layer lives.
#[cfg(test)]
pub(crate) fn detached(level: &str) -> (reload::Layer<EnvFilter, Registry>, LogControl) {
    let (layer, handle) = reload::Layer::new(filter(level).expect("a level"));
    (layer, LogControl(handle))
}

/// Starts logging for the whole process. Panics stay on standard error where the log is text.
pub fn init(config: &Config) -> Result<LogControl, Error> {
    let (filter, control) = reload::Layer::new(filter(&config.level)?);
    tracing_subscriber::registry()
        .with(lines(config)?.with_filter(filter.and(no_library_details())))
        .try_init()
        .map_err(Error::AlreadyStarted)?;
    if config.format == Format::Json {
        panics::log();
    }
    Ok(LogControl(control))
}

fn filter(level: &str) -> Result<EnvFilter, Error> {
    let named = level.contains(ACCESS);
    let directives = if named {
        level.to_owned()
    } else {
        format!("{ACCESS}=info,{level}")
    };
    EnvFilter::builder()
        .parse(directives)
        .map_err(|source| Error::Level {
            level: level.to_owned(),
            source,
        })
}

/// Whatever the directives say.
fn no_library_details() -> FilterFn<impl Fn(&Metadata<'_>) -> bool> {
    filter_fn(|metadata| *metadata.level() <= most_of(metadata.target()))
        // It forbids no level as such; without this every line at any level would be looked at.
        .with_max_level_hint(tracing::Level::TRACE)
}

fn most_of(target: &str) -> tracing::Level {
    if is_of("transparent_proxy", target) {
        tracing::Level::TRACE
    } else if is_of("kube_client", target) {
        KUBE_CLIENT
    } else {
        LIBRARIES
    }
}

fn is_of(library: &str, target: &str) -> bool {
    target
        .strip_prefix(library)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

type AnyLines = Box<dyn Layer<Registry> + Send + Sync>;

fn lines(config: &Config) -> Result<AnyLines, Error> {
    Ok(match &config.output {
        Output::StandardError => formatted(config, io::stderr, colours_wanted()),
        Output::StandardOutput => formatted(config, io::stdout, false),
        Output::File(path) => formatted(config, Arc::new(open(path)?), false),
    })
}

fn open(path: &Path) -> Result<File, Error> {
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|source| Error::File {
            path: path.to_owned(),
            source,
        })
}

fn formatted<W>(config: &Config, writer: W, coloured: bool) -> AnyLines
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let flat = |shape, writer| Lines::new(config.component, shape, writer).boxed();
    match (config.format, &config.output) {
        (Format::Json, _) => flat(Shape::Json, writer),
        // What a container says is read beside what others say.
        (Format::Text, Output::StandardOutput) => flat(Shape::Text, writer),
        (Format::Text, _) => fmt::layer().with_writer(writer).with_ansi(coloured).boxed(),
    }
}

/// See <https://no-color.org>.
fn colours_wanted() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives_are_understood() {
        for level in [
            "info",
            "DEBUG",
            "off",
            "info,hyper=warn",
            "transparent_proxy::access=info",
        ] {
            filter(level).unwrap();
        }
    }

    #[test]
    fn no_directive_makes_libraries_tell_details() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let writer = Arc::new(file.reopen().unwrap());
        let filter = filter("trace,h2=trace,[{header}]=trace").unwrap();
        let lines = fmt::layer()
            .with_writer(writer)
            .with_filter(filter.and(no_library_details()));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
            let span = tracing::debug_span!(target: "h2::codec", "frame", header = "MARKER");
            span.in_scope(|| tracing::trace!(target: "h2::codec", "MARKER"));
            tracing::debug!(target: "transparent_proxy_like", "MARKER");
            tracing::warn!(target: "h2", "may be said");
            tracing::warn!(target: "kube_client::client", "MARKER in an answer");
            tracing::error!(target: "kube_client::client", "may be said, too");
            tracing::trace!(target: "transparent_proxy::kernel", "ours");
        });
        let said = std::fs::read_to_string(file.path()).unwrap();
        assert!(!said.contains("MARKER"), "{said}");
        for expected in ["may be said", "may be said, too", "ours"] {
            assert!(said.contains(expected), "{said}");
        }
    }

    #[test]
    fn at_level_fatal_only_the_last_words_are_said() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let writer = Arc::new(file.reopen().unwrap());
        let lines = fmt::layer()
            .with_writer(writer)
            .with_filter(filter(&Level::Fatal.directives()).unwrap());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
            tracing::error!("an error");
            tracing::info!(target: ACCESS, "a request");
            tracing::error!(target: FATAL, "the end");
        });
        let said = std::fs::read_to_string(file.path()).unwrap();
        assert!(said.lines().count() == 1 && said.contains("the end"), "{said}");
    }

    #[test]
    fn a_wrong_level_is_named() {
        assert_eq!(
            filter("info=loud").unwrap_err().to_string(),
            r#"log level "info=loud" is not understood"#
        );
    }

    #[test]
    fn the_access_log_depends_on_no_level_unless_one_names_it() {
        assert!(
            filter("error")
                .unwrap()
                .to_string()
                .contains("transparent_proxy::access=info")
        );
        assert!(
            !filter("transparent_proxy::access=warn")
                .unwrap()
                .to_string()
                .contains("=info")
        );
    }
}
