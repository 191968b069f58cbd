//! Where in the node's tree the pods are.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tracing::warn;

use super::Error;
use super::uid::uid_of_name;
use crate::datapath::cgroup::{holds_this_process, is_cgroup2};

/// `/user.slice/user-1000.slice/user@1000.service/user.slice/x.scope/kubelet.slice/…`, and
/// then some.
const DEEPEST: usize = 10;
/// More directories than this are not looked into.
const MOST: usize = 20_000;

/// Where the hook is for all pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachPoint {
    pub path: PathBuf,
    /// The root of the version 2 tree, as far as it is mounted.
    pub tree: PathBuf,
    /// `path` is the cgroup of all pods; otherwise it is the whole tree, because that was
    /// not found.
    pub is_kubepods: bool,
}

/// Finds the cgroup of all pods below `root`, the place where the node's tree is mounted.
/// Without one it is the root of the tree, which the log says; the hook is then for all
/// processes of the node.
pub fn attach_point(root: &Path) -> Result<AttachPoint, Error> {
    let tree = tree_of_version_2(root)?;
    let point = point_in(tree)?;
    if !point.is_kubepods {
        warn!(
            cgroup = %point.path.display(),
            "no cgroup `kubepods` or `kubepods.slice` is there, so the hook is for all processes of the node"
        );
    }
    Ok(point)
}

/// `root` itself, or what is mounted in it beside version 1.
fn tree_of_version_2(root: &Path) -> Result<PathBuf, Error> {
    fs::read_dir(root).map_err(|source| Error::Missing {
        path: root.to_owned(),
        source,
    })?;
    let candidates = [root.to_owned(), root.join("unified")];
    let tree = candidates.into_iter().find(|path| is_cgroup2(path));
    tree.ok_or_else(|| Error::NotCgroup2 {
        path: root.to_owned(),
    })
}

pub(super) fn point_in(tree: PathBuf) -> Result<AttachPoint, Error> {
    let kubepods = find_kubepods(&tree)?;
    if kubepods.is_none() && is_deserted(&tree) {
        return Err(Error::Empty { path: tree });
    }
    Ok(AttachPoint {
        is_kubepods: kubepods.is_some(),
        path: kubepods.unwrap_or_else(|| tree.clone()),
        tree,
    })
}

fn find_kubepods(tree: &Path) -> Result<Option<PathBuf>, Error> {
    if has_pods(tree) {
        return Ok(Some(tree.to_owned()));
    }
    let mut level = vec![tree.to_owned()];
    let mut looked_into = 0;
    for _ in 0..DEEPEST {
        let below: Vec<PathBuf> = level.iter().flat_map(|path| directories(path)).collect();
        let found: Vec<PathBuf> = below.iter().filter(|path| is_kubepods(path)).cloned().collect();
        if !found.is_empty() {
            return choose(found).map(Some);
        }
        looked_into += below.len();
        if below.is_empty() || looked_into > MOST {
            break;
        }
        level = below;
    }
    Ok(None)
}

/// `kubepods`, or the end of a slice's name, which begins with its parents'.
fn is_kubepods(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    name == "kubepods"
        || name
            .strip_suffix("kubepods.slice")
            .is_some_and(|parents| parents.is_empty() || parents.ends_with('-'))
}

/// On a machine with several nodes ours is where we are. On one whose kubelet has changed its
/// driver, an empty one may be left over.
fn choose(mut found: Vec<PathBuf>) -> Result<PathBuf, Error> {
    for criterion in [|_: &Path| true, holds_this_process, has_pods] {
        let mut chosen = found.iter().filter(|path| criterion(path));
        if let (Some(only), None) = (chosen.next(), chosen.next()) {
            return Ok(only.clone());
        }
    }
    found.sort();
    Err(Error::Ambiguous { paths: found })
}

/// Of its own, or in one of the two classes that have a cgroup.
fn has_pods(path: &Path) -> bool {
    let is_class = |path: &Path| {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let name = name.strip_suffix(".slice").unwrap_or(name);
        matches!(name.rsplit('-').next(), Some("burstable" | "besteffort"))
    };
    let is_pod = |path: &PathBuf| path.file_name().and_then(uid_of_name).is_some();
    let children = directories(path);
    children.iter().any(is_pod)
        || children
            .iter()
            .any(|child| is_class(child) && directories(child).iter().any(is_pod))
}

/// The root of a whole tree has no such file, and processes.
fn is_deserted(tree: &Path) -> bool {
    fs::read_to_string(tree.join("cgroup.events"))
        .is_ok_and(|events| events.lines().any(|line| line == "populated 0"))
}

/// What cannot be read has none.
fn directories(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path)
        .into_iter()
        .flatten()
        .filter_map(io::Result::ok);
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}
