//! `${env:NAME}` and `${file:PATH}` inside values; `$${` is a literal `${`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::disk::{self, ReadError};
use crate::resolve::destination::quoted;

/// Looks variables up; the process's own outside of tests.
pub type Environment = Arc<dyn Fn(&str) -> Option<OsString> + Send + Sync>;

/// Far more than a certificate or token, far less than hurts.
const MAX_SIZE: u64 = 1 << 20;

/// A sentence that follows the property's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(
        "refers to the variable {0}, which is not set for the proxy; export it, and with sudo name it in --preserve-env"
    )]
    NoVariable(String),
    #[error("refers to the variable {0}, which is not valid UTF-8")]
    VariableNotText(String),
    #[error("refers to the file {path}, which {error}; paths are relative to the folder of the destination")]
    File { path: String, error: ReadError },
    #[error("refers to the file {0}, which is not valid UTF-8")]
    FileNotText(String),
    #[error(
        "has the unknown reference {0}; ${{env:NAME}} and ${{file:PATH}} exist, and $${{ stands for a literal ${{"
    )]
    Unknown(String),
    #[error("has a \"${{\" without closing \"}}\"; write $${{ for a literal ${{")]
    NotClosed,
    #[error("has a reference without name; write ${{env:NAME}} or ${{file:PATH}}")]
    NoName,
}

/// A value with all references resolved.
pub(super) struct Expanded {
    pub(super) text: Zeroizing<String>,
    /// Something came from outside of the file.
    pub(super) referenced: bool,
}

enum Part<'a> {
    Text(&'a str),
    Env(&'a str),
    File(&'a str),
}

/// Text that is inserted is not searched for references again.
pub(super) fn expand(value: &str, folder: &Path, environment: &Environment) -> Result<Expanded, Error> {
    let mut text = Zeroizing::new(String::new());
    let mut referenced = false;
    for part in parts(value)? {
        match part {
            Part::Text(part) => text.push_str(part),
            Part::Env(name) => {
                referenced = true;
                text.push_str(&variable(name, environment)?);
            }
            Part::File(path) => {
                referenced = true;
                text.push_str(&file(path, folder)?);
            }
        }
    }
    Ok(Expanded { text, referenced })
}

/// The files that a value refers to; none if its references are wrong.
pub(super) fn files(value: &str, folder: &Path) -> Vec<PathBuf> {
    let parts = parts(value).unwrap_or_default();
    let file = |part: &Part<'_>| match part {
        Part::File(path) => Some(folder.join(path)),
        Part::Text(_) | Part::Env(_) => None,
    };
    parts.iter().filter_map(file).collect()
}

fn parts(value: &str) -> Result<Vec<Part<'_>>, Error> {
    let mut parts = Vec::new();
    let mut rest = value;
    while let Some(start) = rest.find("${") {
        if rest[..start].ends_with('$') {
            parts.push(Part::Text(&rest[..start - 1]));
            parts.push(Part::Text("${"));
            rest = &rest[start + 2..];
            continue;
        }
        parts.push(Part::Text(&rest[..start]));
        let end = start + rest[start..].find('}').ok_or(Error::NotClosed)?;
        parts.push(reference(&rest[start + 2..end])?);
        rest = &rest[end + 1..];
    }
    parts.push(Part::Text(rest));
    Ok(parts)
}

fn reference(inside: &str) -> Result<Part<'_>, Error> {
    // What follows an unknown kind may be part of a secret, so only the kind is shown.
    let Some((kind, name)) = inside.split_once(':') else {
        return Err(Error::Unknown("\"${…}\"".to_owned()));
    };
    match kind {
        "env" | "file" if name.is_empty() => Err(Error::NoName),
        "env" => Ok(Part::Env(name)),
        "file" => Ok(Part::File(name)),
        _ if kind.len() <= 12 && kind.bytes().all(|b| b.is_ascii_alphabetic()) => {
            Err(Error::Unknown(quoted(&format!("${{{kind}:…}}"))))
        }
        _ => Err(Error::Unknown("\"${…}\"".to_owned())),
    }
}

fn variable(name: &str, environment: &Environment) -> Result<Zeroizing<String>, Error> {
    let value = environment(name).ok_or_else(|| Error::NoVariable(quoted(name)))?;
    let value = value.into_string();
    value
        .map(Zeroizing::new)
        .map_err(|_secret| Error::VariableNotText(quoted(name)))
}

fn file(path: &str, folder: &Path) -> Result<Zeroizing<String>, Error> {
    let bytes = disk::read(&folder.join(path), MAX_SIZE);
    let bytes = bytes.map_err(|error| Error::File {
        path: quoted(path),
        error,
    })?;
    let text = std::str::from_utf8(&bytes);
    let text = text.map_err(|_position| Error::FileNotText(quoted(path)))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    Ok(Zeroizing::new(text.to_owned()))
}
