mod broken;
mod exposed;
mod formats;
mod reload;
mod settings;

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Environment, FileSource, Snapshot};

/// No message may ever contain it.
const MARKER: &str = "MARKER";

fn environment(variables: &[(&'static str, &'static str)]) -> Environment {
    let variables = variables.to_vec();
    Arc::new(move |name| {
        let mut variables = variables.iter();
        variables
            .find(|(n, _)| *n == name)
            .map(|(_, value)| OsString::from(value))
    })
}

/// Open to others, there would be a warning about each secret.
fn closed_folder() -> tempfile::TempDir {
    let mode = fs::Permissions::from_mode(0o700);
    tempfile::Builder::new().permissions(mode).tempdir().unwrap()
}

/// A folder with destination files.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(closed_folder());
        for (name, text) in files {
            folder.write(name, text);
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    fn source(&self) -> FileSource {
        let path = self.0.path().to_owned();
        FileSource::with_environment(vec![path], environment(&[("SECRET", "from-env")]))
    }

    fn load(&self, previous: Option<&Snapshot>) -> Snapshot {
        self.source().load(previous)
    }
}

fn http(name: &str, host: &str) -> String {
    format!("Name: {name}\nType: HTTP\nURL: https://{host}\n")
}

/// `name=host` of what is served, and `name=-` where nothing is.
fn served(snapshot: &Snapshot) -> Vec<String> {
    let host = |loaded: &super::Loaded| match loaded.current() {
        Some(destination) => match &destination.protocol {
            crate::resolve::destination::Protocol::Http(http) => http.url.host.clone(),
            crate::resolve::destination::Protocol::Tcp(tcp) => tcp.host.clone(),
        },
        None => "-".to_owned(),
    };
    let destinations = snapshot.destinations.iter();
    destinations
        .map(|loaded| format!("{}={}", loaded.name, host(loaded)))
        .collect()
}
