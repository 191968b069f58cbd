//! Reads files of limited size, and key stores that must not lie outside their folder.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use zeroize::Zeroizing;

use crate::resolve::destination::{KeyStores, StoreError, quoted};

/// Ends a sentence that begins with the name of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("does not exist")]
    NotFound,
    #[error("is not a regular file")]
    NotAFile,
    #[error("is larger than {0} bytes")]
    TooLarge(u64),
    #[error("cannot be read: {0}")]
    Io(String),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound,
            kind => Self::Io(kind.to_string()),
        }
    }
}

pub(super) fn read(path: &Path, limit: u64) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    // Opening a FIFO would wait for a writer without O_NONBLOCK; regular files ignore it.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(ReadError::NotAFile);
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(ReadError::TooLarge(limit));
    }
    Ok(bytes)
}

/// Whether every user of this machine can read the file: its own mode says so, and no
/// folder on the way is closed.
pub(super) fn is_open_to_all(path: &Path) -> bool {
    let allows = |path: &Path, bit| {
        fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & bit == bit)
    };
    fs::canonicalize(path).is_ok_and(|real| {
        let mut folders = real.ancestors().skip(1);
        allows(&real, READ_BY_OTHERS) && folders.all(|folder| allows(folder, SEARCH_BY_OTHERS))
    })
}

/// `S_IROTH` and `S_IXOTH`, see inode(7).
const READ_BY_OTHERS: u32 = 0o004;
const SEARCH_BY_OTHERS: u32 = 0o001;

/// The key stores beside a destination file. Notes what was asked for.
pub(super) struct FolderStores<'a> {
    pub(super) folder: &'a Path,
    pub(super) asked: &'a RefCell<BTreeSet<PathBuf>>,
}

const MAX_STORE_SIZE: u64 = 1 << 20;

impl KeyStores for FolderStores<'_> {
    fn read(&self, location: &str) -> Result<Vec<u8>, StoreError> {
        let shown = quoted(location);
        let relative = Path::new(location);
        let stays = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
        if location.contains('\0') || !relative.components().all(stays) {
            return Err(StoreError::OutsideFolder(shown));
        }
        let path = self.folder.join(relative);
        self.asked.borrow_mut().insert(path.clone());
        let real = self.inside(&path, &shown)?;
        let bytes = read(&real, MAX_STORE_SIZE).map_err(|error| store_error(error, shown))?;
        Ok(bytes.to_vec())
    }
}

impl FolderStores<'_> {
    /// Follows symbolic links, as Kubernetes' volumes have them, but not out of the folder.
    fn inside(&self, path: &Path, shown: &str) -> Result<PathBuf, StoreError> {
        let real =
            |path: &Path| fs::canonicalize(path).map_err(|error| store_error(error.into(), shown.to_owned()));
        let (folder, file) = (real(self.folder)?, real(path)?);
        if file.starts_with(&folder) {
            Ok(file)
        } else {
            Err(StoreError::OutsideFolder(shown.to_owned()))
        }
    }
}

fn store_error(error: ReadError, location: String) -> StoreError {
    match error {
        ReadError::NotFound => StoreError::NotFound(location),
        ReadError::NotAFile => StoreError::NotAFile(location),
        ReadError::TooLarge(limit) => StoreError::TooLarge { location, limit },
        ReadError::Io(reason) => StoreError::Unreadable { location, reason },
    }
}
