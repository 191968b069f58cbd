//! Hosts files: the private one of CMD, and the one of `--hosts-file`.
//!
//! Names reach programs that read `/etc/hosts`. glibc does so in the order of the `hosts:`
//! line of nsswitch.conf(5); where another source comes before `files`, or nscd answers,
//! the sandbox puts a private nsswitch.conf and nscd socket in place too.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The hosts file of the machine.
pub const SYSTEM: &str = "/etc/hosts";

const BEGIN: &str = "# BEGIN transparent-proxy: lines up to the end mark are rewritten";
const END: &str = "# END transparent-proxy";

/// A name and its virtual IP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub address: IpAddr,
    pub name: String,
}

/// The file that CMD sees as `/etc/hosts`: the machine's own plus the destinations.
#[derive(Debug, Clone)]
pub struct PrivateHosts {
    path: PathBuf,
    system: PathBuf,
}

impl PrivateHosts {
    pub fn new(path: PathBuf, system: PathBuf) -> Self {
        Self { path, system }
    }

    /// Rewrites the file in place: CMD's mount shows this inode, whatever its name is later.
    pub fn update(&self, entries: &[Entry]) -> io::Result<()> {
        let system = match fs::read_to_string(&self.system) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        write_in_place(&self.path, &private(&system, entries))
    }
}

/// One write, then the cut: a reader in between finds every new line, at worst with the
/// end of the old text behind.
fn write_in_place(path: &Path, text: &str) -> io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    file.write_all_at(text.as_bytes(), 0)?;
    file.set_len(text.len() as u64)
}

/// Destinations first, and their names taken out of the machine's lines: with `multi on`
/// in host.conf(5) a name would otherwise have both addresses.
fn private(system: &str, entries: &[Entry]) -> String {
    let ours: HashSet<String> = entries.iter().map(|entry| entry.name.to_lowercase()).collect();
    let mut text = lines(entries);
    for line in system.lines() {
        if let Some(line) = without_names(line, &ours) {
            text.push_str(&line);
            text.push('\n');
        }
    }
    text
}

fn lines(entries: &[Entry]) -> String {
    let mut text = String::new();
    for Entry { address, name } in entries {
        writeln!(text, "{address} {name}").expect("writing to a string cannot fail");
    }
    text
}

/// A line without the names that are ours; nothing if no name remains.
fn without_names(line: &str, ours: &HashSet<String>) -> Option<String> {
    let (content, comment) = line.split_at(line.find('#').unwrap_or(line.len()));
    let mut fields = content.split_whitespace();
    let address = fields.next();
    let names: Vec<&str> = fields.collect();
    let (kept, dropped): (Vec<&str>, Vec<&str>) = names
        .into_iter()
        .partition(|name| !ours.contains(&name.to_lowercase()));
    if dropped.is_empty() {
        return Some(line.to_owned());
    }
    let address = address.filter(|_| !kept.is_empty())?;
    Some(
        format!("{address} {} {comment}", kept.join(" "))
            .trim_end()
            .to_owned(),
    )
}

/// The file of `--hosts-file`. Only the lines between two markers are ours; dropping this
/// takes them out again.
#[derive(Debug)]
pub struct PublicHosts {
    path: PathBuf,
    /// Nobody had such a file before.
    created: bool,
}

impl PublicHosts {
    pub fn open(path: &Path) -> io::Result<Self> {
        // The file that a symbolic link names is replaced, not the link.
        match path.canonicalize() {
            Ok(path) => Ok(Self { path, created: false }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self {
                path: path.to_owned(),
                created: true,
            }),
            Err(error) => Err(error),
        }
    }

    /// Puts these entries between the markers.
    pub fn update(&self, entries: &[Entry]) -> io::Result<()> {
        let mut text = without_block(&self.read()?);
        text.extend([BEGIN, "\n", &lines(entries), END, "\n"]);
        replace(&self.path, &text)
    }

    /// Takes everything that is ours out.
    pub fn restore(&self) -> io::Result<()> {
        let rest = without_block(&self.read()?);
        if self.created && rest.trim().is_empty() {
            return match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        replace(&self.path, &rest)
    }

    fn read(&self) -> io::Result<String> {
        match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            other => other,
        }
    }
}

impl Drop for PublicHosts {
    fn drop(&mut self) {
        if let Err(error) = self.restore() {
            tracing::warn!(%error, path = %self.path.display(), "the hosts file still names the destinations");
        }
    }
}

/// The text without our block. A block without its end, left by hand or by a full disk,
/// loses only its first line: what follows may be the user's.
fn without_block(text: &str) -> String {
    let mut rest = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line == BEGIN {
            let mut ahead = lines.clone();
            if ahead.any(|line| line == END) {
                lines = ahead;
            }
            continue;
        }
        rest.push_str(line);
        rest.push('\n');
    }
    rest
}

/// Replaces a file at once, keeping its owner and mode. Where the file itself is a mount
/// point, as `/etc/hosts` of a container, that cannot be, and it is rewritten in place.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let temporary = temporary_name(path);
    let result = write_new(&temporary, path, text).and_then(|()| fs::rename(&temporary, path));
    if result.is_err() {
        // Nothing may stay behind; if there is nothing, so much the better.
        let _ = fs::remove_file(&temporary);
    }
    match result {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => write_in_place(path, text),
        other => other,
    }
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".transparent-proxy-{}", std::process::id()));
    path.with_file_name(name)
}

fn write_new(temporary: &Path, like: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create(temporary)?;
    file.write_all(text.as_bytes())?;
    if let Ok(old) = fs::metadata(like) {
        file.set_permissions(fs::Permissions::from_mode(old.mode()))?;
        std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
    }
    file.sync_all()
}

/// A copy of nsswitch.conf whose `hosts:` line asks `files` first; nothing if it does so anyway.
pub(super) fn nsswitch_with_files_first(text: &str) -> Option<String> {
    let hosts = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("hosts:"))?;
    let sources: Vec<&str> = hosts.split('#').next()?.split_whitespace().collect();
    if sources.first() == Some(&"files") {
        return None;
    }
    let rest: Vec<&str> = sources.into_iter().filter(|source| *source != "files").collect();
    let changed = format!("hosts: files {}", rest.join(" "));
    let lines = text.lines().map(|line| {
        if line.trim_start().starts_with("hosts:") {
            changed.as_str()
        } else {
            line
        }
    });
    Some(lines.fold(String::new(), |all, line| all + line + "\n"))
}

#[cfg(test)]
mod tests;
