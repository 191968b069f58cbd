//! Destinations from files: a folder or single files, watched.
//!
//! *Guarantees*: a destination that was good once stays in use until its file is
//! removed or has a new good version; a broken file disturbs no other destination.

mod disk;
mod export;
mod load;
mod problem;
mod references;
mod watch;
pub(super) mod yaml;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use super::super::destination::{Destination, DestinationName, Warning};

pub use self::disk::ReadError;
pub use self::problem::{Cause, Place, Problem};
pub use self::references::Environment;
pub use super::document::Position;

/// All that the files say at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// In the order of the files, names unique.
    pub destinations: Vec<Loaded>,
    /// What belongs to no destination that is known by name.
    pub problems: Vec<Problem>,
    /// Files of the folders that are neither destinations nor key stores by their names.
    pub ignored: Vec<PathBuf>,
}

/// A destination and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    pub name: DestinationName,
    pub origin: Place,
    pub state: State,
    pub warnings: Vec<(Place, Warning)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Ok(Arc<Destination>),
    /// Without problems of its own, the file as a whole is broken.
    Broken {
        problems: Vec<Problem>,
        last_good: Option<Arc<Destination>>,
    },
}

impl Snapshot {
    /// The problems of files and destinations.
    pub fn all_problems(&self) -> impl Iterator<Item = &Problem> {
        let of_destinations = self.destinations.iter().flat_map(Loaded::problems);
        self.problems.iter().chain(of_destinations)
    }
}

impl Loaded {
    /// What is to be served: the newest good version.
    pub fn current(&self) -> Option<&Arc<Destination>> {
        match &self.state {
            State::Ok(destination) => Some(destination),
            State::Broken { last_good, .. } => last_good.as_ref(),
        }
    }

    pub fn problems(&self) -> &[Problem] {
        match &self.state {
            State::Ok(_) => &[],
            State::Broken { problems, .. } => problems,
        }
    }
}

/// Folders and files with destinations.
#[derive(Clone)]
pub struct FileSource {
    paths: Vec<PathBuf>,
    environment: Environment,
}

impl FileSource {
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self::with_environment(paths, Arc::new(|name| std::env::var_os(name)))
    }

    /// For tests, which must not depend on the variables of the process.
    pub fn with_environment(paths: Vec<PathBuf>, environment: Environment) -> Self {
        Self { paths, environment }
    }

    /// Reads everything now; broken destinations keep their good version out of `previous`.
    pub fn load(&self, previous: Option<&Snapshot>) -> Snapshot {
        load::load(&self.paths, &self.environment, previous).snapshot
    }

    /// The files now and after each change. Ends when all receivers are gone.
    pub fn watch(self) -> tokio::sync::watch::Receiver<Arc<Snapshot>> {
        watch::watch(self)
    }
}
