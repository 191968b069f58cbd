//! What a restarted agent serves while the API server is away: a file without any secret.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::resolve::directory::{Cr, Entrance};
use crate::resolve::pods::Pod;
use crate::resolve::source::secrets;

const NAME: &str = "snapshot.json";

/// A file of another format is not read: an agent of another version has written it.
const FORMAT: u32 = 2;

/// What has not changed is written again after so long, so that its age is known.
const CONFIRMED: i64 = 300;

/// All that was known at one time, and may be written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Snapshot {
    format: u32,
    /// When all of it was true, in seconds since 1970.
    pub(super) as_of: i64,
    pub(super) own: Own,
    pub(super) services: Vec<Arc<Entrance>>,
    pub(super) crs: Vec<Arc<Cr>>,
    /// Those that need no credential.
    pub(super) destinations: secrets::Snapshot,
    /// Without them nobody would be known, and destinations are for namespaces.
    pub(super) pods: Vec<Arc<Pod>>,
}

/// The pod that has written it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Own {
    pub(super) pod: String,
    /// A sidecar of a service mesh is in it.
    pub(super) meshed: bool,
    /// Services lead to it.
    pub(super) endpoint: bool,
}

/// What is known at one time.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) as_of: i64,
    pub(super) own: Own,
    pub(super) services: Vec<Arc<Entrance>>,
    pub(super) crs: Vec<Arc<Cr>>,
    pub(super) destinations: secrets::Snapshot,
    pub(super) pods: Vec<Arc<Pod>>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{}", .path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not understood", .path.display())]
    Content {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("{} is of format {format} instead of {FORMAT}", .path.display())]
    Format { path: PathBuf, format: u32 },
}

impl Snapshot {
    pub(super) fn new(known: Known) -> Self {
        let Known {
            as_of,
            own,
            mut services,
            mut crs,
            destinations,
            mut pods,
        } = known;
        services.sort_by(|one, other| one.service.cmp(&other.service));
        crs.sort_by(|one, other| one.name.cmp(&other.name));
        pods.sort_by_key(|pod| pod.uid);
        Self {
            format: FORMAT,
            as_of,
            own,
            services,
            crs,
            destinations,
            pods,
        }
    }

    /// Whether it says more than what was written before.
    pub(super) fn is_news(&self, before: &Self) -> bool {
        let Self {
            format: _,
            as_of,
            own,
            services,
            crs,
            destinations,
            pods,
        } = before;
        self.as_of - as_of >= CONFIRMED
            || self.own != *own
            || self.services != *services
            || self.crs != *crs
            || self.destinations != *destinations
            || self.pods != *pods
    }

    /// The one in this folder, if there is one.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>, Error> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }

        let path = folder.join(NAME);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Io { path, source }),
        };
        let content = |source| Error::Content {
            path: path.clone(),
            source,
        };
        let Format { format } = serde_json::from_slice(&bytes).map_err(content)?;
        if format != FORMAT {
            return Err(Error::Format { path, format });
        }
        serde_json::from_slice(&bytes).map(Some).map_err(content)
    }

    /// Replaces the one in this folder: whoever reads sees the old one or the new one. `writer` is
    /// the name of the pod; another one may be writing at the same time.
    pub(super) fn write(&self, folder: &Path, writer: &str) -> Result<(), Error> {
        let path = folder.join(format!(".{NAME}.{writer}"));
        let failed = |source| Error::Io {
            path: path.clone(),
            source,
        };
        let bytes = serde_json::to_vec(self).map_err(|error| failed(error.into()))?;
        // Only its owner reads it, from the first byte on.
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        file.write_all(&bytes).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        fs::rename(&path, folder.join(NAME)).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;

    use super::*;

    fn snapshot() -> Snapshot {
        serde_json::from_value(json!({
            "format": FORMAT,
            "asOf": 1_700_000_000,
            "own": {"pod": "agent-1", "meshed": false, "endpoint": false},
            "services": [{
                "service": "my-dest",
                "cr": {"namespace": "shop", "name": "my-dest"},
                "addresses": ["10.96.0.1", "fd00::1"],
                "port": 80,
                "targetPort": 10_001,
                "speaks": "http",
                "created": 1_700_000_000,
            }],
            "crs": [{
                "namespace": "shop",
                "name": "my-dest",
                "spec": {"destinationRef": {"name": "backend"}},
            }],
            "destinations": [{
                "allowedNamespaces": "all",
                "properties": {"Name": "backend", "Type": "HTTP", "URL": "https://backend.example"},
            }],
            "pods": [{
                "uid": "0123456789abcdef0123456789abcdef",
                "cgroupUid": null,
                "namespace": "shop",
                "name": "app",
                "addresses": ["10.0.0.1"],
                "hostNetwork": false,
                "ended": false,
                "terminating": false,
            }],
        }))
        .unwrap()
    }

    #[test]
    fn what_is_written_is_read_back_and_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Snapshot::read(folder.path()).unwrap(), None);
        snapshot().write(folder.path(), "agent-1").unwrap();
        assert_eq!(Snapshot::read(folder.path()).unwrap(), Some(snapshot()));
        let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(Result::unwrap).collect();
        assert_eq!(files.len(), 1);
        let mode = files[0].metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_stays_the_same_is_confirmed_now_and_then() {
        let before = snapshot();
        let mut now = before.clone();
        now.as_of += CONFIRMED - 1;
        assert!(!now.is_news(&before));
        now.as_of += 1;
        assert!(now.is_news(&before));
        let mut changed = before.clone();
        changed.own.meshed = true;
        assert!(changed.is_news(&before));
    }

    #[test]
    fn what_another_version_or_somebody_else_has_written_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        fs::write(&path, r#"{"format": 1, "anything": true}"#).unwrap();
        assert!(matches!(
            Snapshot::read(folder.path()),
            Err(Error::Format { format: 1, .. })
        ));
        for text in ["", "{}", r#"{"format": 2}"#, "\u{0}\u{0}"] {
            fs::write(&path, text).unwrap();
            assert!(
                matches!(Snapshot::read(folder.path()), Err(Error::Content { .. })),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_that_names_it() {
        let error = snapshot()
            .write(Path::new("/proc/nowhere"), "agent-1")
            .unwrap_err();
        assert!(error.to_string().contains("/proc/nowhere"), "{error}");
    }
}
