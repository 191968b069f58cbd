//! The files of an image, and the tar archive of them, the same whoever makes it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tar::{Builder, EntryType, Header};

use super::libraries;

/// Everything belongs to root, so that no process in the image can change it.
pub(crate) struct Layer {
    /// By path without the leading slash; sorted, folders before what is in them.
    entries: BTreeMap<PathBuf, Entry>,
}

pub(super) struct Entry {
    kind: Kind,
    mode: u32,
    capabilities: Option<Capabilities>,
}

enum Kind {
    Folder,
    Content(Vec<u8>),
    Copy(PathBuf),
    Link(PathBuf),
}

/// Numbers of capabilities(7) that a program may switch on, if its pod has them.
///
/// Permitted only, without the effective bit of the file: with that, the kernel refuses to
/// execute the program (EPERM) wherever it would not get all of them, which is in every pod
/// that drops ALL; see "Safety checking for capability-dumb binaries" there.
#[derive(Clone)]
pub(crate) struct Capabilities(pub(crate) &'static [(u8, &'static str)]);

impl Capabilities {
    /// `struct vfs_cap_data`, revision 2, of linux/capability.h.
    fn attribute(&self) -> Vec<u8> {
        const REVISION_2: u32 = 0x0200_0000;
        let permitted = self.0.iter().fold(0_u64, |mask, (number, _)| mask | 1 << number);
        let low = u32::try_from(permitted & u64::from(u32::MAX)).expect("masked");
        let high = u32::try_from(permitted >> 32).expect("shifted");
        let inheritable = 0;
        [REVISION_2, low, inheritable, high, inheritable]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect()
    }

    /// As getcap(8) prints it.
    fn text(&self) -> String {
        let names: Vec<&str> = self.0.iter().map(|(_, name)| *name).collect();
        format!("{}=p", names.join(","))
    }
}

impl Layer {
    pub(crate) fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
        }
    }

    pub(crate) fn folder(&mut self, path: &str, mode: u32) -> &mut Self {
        self.insert(path, Kind::Folder, mode)
    }

    pub(crate) fn text(&mut self, path: &str, content: &str) -> &mut Self {
        self.insert(path, Kind::Content(content.into()), 0o644)
    }

    pub(crate) fn link(&mut self, path: &str, target: &str) -> &mut Self {
        self.insert(path, Kind::Link(target.into()), 0o777)
    }

    /// A file of this machine, with its permissions.
    pub(crate) fn copy(&mut self, from: &Path, path: &str) -> Result<&mut Self> {
        let metadata = fs::metadata(from).with_context(|| format!("{} is there", from.display()))?;
        let mode = if metadata.permissions().mode() & 0o111 == 0 {
            0o644
        } else {
            0o755
        };
        Ok(self.insert(path, Kind::Copy(from.to_owned()), mode))
    }

    /// A program with the libraries that the loader would give it here.
    pub(crate) fn program(&mut self, from: &Path, path: &str) -> Result<&mut Self> {
        self.at_their_places(libraries::of(from, &[])?)?;
        self.copy(from, path)
    }

    /// Libraries of a program or of another library, but for those in folders that are packed anyway.
    pub(crate) fn libraries(&mut self, of: &Path, but_in: &[PathBuf]) -> Result<&mut Self> {
        let mut found = libraries::of(of, but_in)?;
        found.retain(|library| {
            // They are named relative to each other.
            let real = fs::canonicalize(library).unwrap_or_else(|_| library.clone());
            !but_in.iter().any(|folder| real.starts_with(folder))
        });
        self.at_their_places(found)
    }

    fn at_their_places(&mut self, files: Vec<PathBuf>) -> Result<&mut Self> {
        for file in files {
            let path = file.display().to_string();
            self.copy(&file, &path)?;
        }
        Ok(self)
    }

    /// A folder of this machine with all that is in it.
    pub(crate) fn tree(&mut self, from: &Path, path: &str) -> Result<&mut Self> {
        self.folder(path, 0o755);
        let entries = fs::read_dir(from).with_context(|| format!("{} can be listed", from.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("{} can be listed", from.display()))?;
            let inside = format!("{path}/{}", entry.file_name().to_string_lossy());
            let kind = entry.file_type().context("a file has a type")?;
            if kind.is_dir() {
                self.tree(&entry.path(), &inside)?;
            } else {
                self.copy(&entry.path(), &inside)?;
            }
        }
        Ok(self)
    }

    pub(crate) fn capabilities(&mut self, path: &str, capabilities: Capabilities) -> &mut Self {
        let entry = self
            .entries
            .get_mut(&inside(path))
            .expect("the program was added before");
        entry.capabilities = Some(capabilities);
        self
    }

    fn insert(&mut self, path: &str, kind: Kind, mode: u32) -> &mut Self {
        let path = inside(path);
        for folder in path.ancestors().skip(1).filter(|folder| *folder != Path::new("")) {
            self.entries.entry(folder.to_owned()).or_insert(Entry {
                kind: Kind::Folder,
                mode: 0o755,
                capabilities: None,
            });
        }
        let entry = Entry {
            kind,
            mode,
            capabilities: None,
        };
        self.entries.insert(path, entry);
        self
    }

    pub(super) fn write(&self, into: impl Write) -> Result<()> {
        let mut archive = Builder::new(into);
        for (path, entry) in &self.entries {
            entry
                .append(&mut archive, path)
                .with_context(|| format!("{} can be packed", path.display()))?;
        }
        archive.into_inner().context("the layer is complete")?;
        Ok(())
    }

    /// As `ls -l` would show it, without what is the same everywhere.
    pub(crate) fn listing(&self) -> Result<Vec<String>> {
        self.entries
            .iter()
            .filter(|(path, entry)| !matches!(entry.kind, Kind::Folder) || self.is_empty(path))
            .map(|(path, entry)| entry.line(path))
            .collect()
    }

    fn is_empty(&self, folder: &Path) -> bool {
        !self
            .entries
            .keys()
            .any(|path| path != folder && path.starts_with(folder))
    }
}

fn inside(path: &str) -> PathBuf {
    PathBuf::from(path.trim_start_matches('/'))
}

impl Entry {
    fn append(&self, archive: &mut Builder<impl Write>, path: &Path) -> Result<()> {
        if let Some(capabilities) = &self.capabilities {
            // Where archivers and container runtimes keep extended attributes.
            let record = ("SCHILY.xattr.security.capability", &*capabilities.attribute());
            archive.append_pax_extensions([record])?;
        }
        let mut header = Header::new_ustar();
        header.set_mode(self.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(self.size()?);
        match &self.kind {
            Kind::Folder => {
                header.set_entry_type(EntryType::Directory);
                archive.append_data(&mut header, path.join(""), std::io::empty())?;
            }
            Kind::Content(content) => archive.append_data(&mut header, path, &**content)?,
            Kind::Copy(from) => {
                archive.append_data(&mut header, path, File::open(from)?.take(self.size()?))?;
            }
            Kind::Link(target) => {
                header.set_entry_type(EntryType::Symlink);
                archive.append_link(&mut header, path, target)?;
            }
        }
        Ok(())
    }

    fn size(&self) -> Result<u64> {
        Ok(match &self.kind {
            Kind::Folder | Kind::Link(_) => 0,
            Kind::Content(content) => content.len().try_into()?,
            Kind::Copy(from) => fs::metadata(from)?.len(),
        })
    }

    fn line(&self, path: &Path) -> Result<String> {
        let path = path.display();
        let shown = match &self.kind {
            Kind::Folder => format!("{path}/"),
            Kind::Content(_) | Kind::Copy(_) => path.to_string(),
            Kind::Link(target) => format!("{path} -> {}", target.display()),
        };
        let capabilities = self.capabilities.as_ref().map(Capabilities::text);
        Ok(format!(
            "{:4o} {:>11} /{shown} {}",
            self.mode,
            self.size()?,
            capabilities.unwrap_or_default()
        )
        .trim_end()
        .to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BPF_AND_NET_ADMIN: Capabilities = Capabilities(&[(39, "cap_bpf"), (12, "cap_net_admin")]);

    fn written(layer: &Layer) -> Vec<u8> {
        let mut archive = Vec::new();
        layer.write(&mut archive).expect("a vector takes everything");
        archive
    }

    #[test]
    fn capabilities_are_permitted_but_not_effective() {
        // What `setcap cap_bpf,cap_net_admin+p` writes.
        assert_eq!(
            BPF_AND_NET_ADMIN.attribute(),
            [0, 0, 0, 2, 0, 0x10, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(BPF_AND_NET_ADMIN.text(), "cap_bpf,cap_net_admin=p");
    }

    #[test]
    fn they_are_in_the_archive_beside_their_program() {
        let mut layer = Layer::new();
        layer
            .text("/bin/a", "")
            .text("/bin/b", "")
            .capabilities("/bin/b", BPF_AND_NET_ADMIN);
        let archive = written(&layer);
        let mut archive = tar::Archive::new(&archive[..]);
        let with_record: Vec<PathBuf> = archive
            .entries()
            .unwrap()
            .filter_map(|entry| {
                let mut entry = entry.unwrap();
                let record = entry.pax_extensions().unwrap()?.next()?.unwrap();
                assert_eq!(record.key(), Ok("SCHILY.xattr.security.capability"));
                assert_eq!(record.value_bytes(), BPF_AND_NET_ADMIN.attribute());
                Some(entry.path().unwrap().into_owned())
            })
            .collect();
        assert_eq!(with_record, [PathBuf::from("bin/b")]);
    }

    #[test]
    fn folders_come_before_what_is_in_them_and_the_order_of_adding_does_not_matter() {
        let mut one = Layer::new();
        one.text("/etc/passwd", "root").folder("/tmp", 0o1777);
        let mut other = Layer::new();
        other.folder("/tmp", 0o1777).text("/etc/passwd", "root");
        let archive = written(&one);
        assert_eq!(archive, written(&other));
        let mut archive = tar::Archive::new(&archive[..]);
        let paths: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(paths, ["etc/", "etc/passwd", "tmp/"]);
    }

    #[test]
    fn the_listing_has_files_links_and_empty_folders() {
        let mut layer = Layer::new();
        layer
            .text("/etc/hosts", "x")
            .link("/etc/mtab", "/proc/mounts")
            .folder("/tmp", 0o1777);
        let lines = layer.listing().unwrap();
        assert_eq!(
            lines,
            [
                " 644           1 /etc/hosts",
                " 777           0 /etc/mtab -> /proc/mounts",
                "1777           0 /tmp/"
            ]
        );
    }
}
