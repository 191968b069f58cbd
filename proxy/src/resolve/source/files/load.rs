//! From paths to a snapshot: list, read, parse, resolve references, interpret.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::disk::{self, FolderStores};
use super::problem::concerns;
use super::references::{self, Environment};
use super::{Cause, Loaded, Place, Problem, Snapshot, State};
use super::{export, yaml};
use crate::resolve::destination::known::is_secret;
use crate::resolve::destination::{
    Destination, DestinationName, Interpretation, Invalid, Source, Warning, interpret, property_name, quoted,
};
use crate::resolve::properties::Properties;
use crate::resolve::source::document::{Entry, Node, Position, Spanned, SyntaxError};
use crate::resolve::source::json;

/// Room for tens of thousands of destinations in one file.
const MAX_FILE_SIZE: u64 = 16 << 20;

/// A snapshot and all that it was made from.
pub(super) struct Load {
    pub(super) snapshot: Snapshot,
    pub(super) inputs: Inputs,
}

/// What to watch: the files that were read or wanted, and the folders that were listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Inputs {
    pub(super) folders: BTreeSet<PathBuf>,
    pub(super) files: BTreeSet<PathBuf>,
}

pub(super) fn load(paths: &[PathBuf], environment: &Environment, previous: Option<&Snapshot>) -> Load {
    let mut loader = Loader {
        environment,
        previous,
        snapshot: Snapshot::default(),
        inputs: Inputs::default(),
        troubled: Vec::new(),
        places: HashMap::new(),
    };
    let mut documents: Vec<Document> = Vec::new();
    let mut seen = HashSet::new();
    let files: Vec<SourceFile> = paths.iter().flat_map(|path| loader.list(path)).collect();
    for file in files {
        // A file may be named beside its folder.
        let is_new = fs::canonicalize(&file.path).map_or(true, |path| seen.insert(path));
        if is_new {
            documents.extend(loader.read(file));
        }
    }
    let referenced = loader.note_references(&documents);
    documents.retain(|document| !is_only_referenced(document, &referenced));
    for document in documents {
        loader.destinations(document);
    }
    loader.keep_destinations_of_troubled_files();
    Load {
        snapshot: loader.snapshot,
        inputs: loader.inputs,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Yaml,
    Export,
    /// JSON or a `key=value` export: the cockpit's downloads have no extension.
    Sniff,
}

struct SourceFile {
    path: PathBuf,
    /// Where references and key stores are looked up.
    folder: PathBuf,
    format: Format,
}

/// One file that was read, understood or not.
struct Document {
    file: SourceFile,
    content: Result<Vec<Spanned<Node>>, Problem>,
}

/// One set of properties, not yet interpreted.
struct Raw {
    at: Position,
    entries: Vec<Entry>,
}

struct Loader<'a> {
    environment: &'a Environment,
    previous: Option<&'a Snapshot>,
    snapshot: Snapshot,
    inputs: Inputs,
    /// Files and folders that may hold more destinations than could be read.
    troubled: Vec<PathBuf>,
    /// Lower-case names, since host names ignore case.
    places: HashMap<String, (DestinationName, Place)>,
}

impl Loader<'_> {
    /// The files of a folder in the order of their names, or the one file.
    fn list(&mut self, path: &Path) -> Vec<SourceFile> {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => self.list_folder(path),
            Ok(_) => {
                self.inputs.files.insert(path.to_owned());
                self.single_file(path)
            }
            Err(error) => {
                self.inputs.files.insert(path.to_owned());
                let cause = match error.kind() {
                    io::ErrorKind::NotFound => Cause::NoSuchPath,
                    kind => Cause::FolderUnreadable(kind.to_string()),
                };
                self.trouble(path, cause);
                Vec::new()
            }
        }
    }

    fn single_file(&mut self, path: &Path) -> Vec<SourceFile> {
        let Some(format) = format(path) else {
            self.trouble(path, Cause::UnknownKind);
            return Vec::new();
        };
        let folder = match path.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        vec![SourceFile {
            path: path.to_owned(),
            folder,
            format,
        }]
    }

    fn list_folder(&mut self, folder: &Path) -> Vec<SourceFile> {
        self.inputs.folders.insert(folder.to_owned());
        let names = match file_names(folder) {
            Ok(names) => names,
            Err(error) => {
                let cause = Cause::FolderUnreadable(error.kind().to_string());
                self.trouble(folder, cause);
                return Vec::new();
            }
        };
        let mut files = Vec::new();
        for path in names.iter().map(|name| folder.join(name)) {
            let folder = folder.to_owned();
            match format(&path) {
                _ if path.is_dir() || is_store(&path) => {}
                Some(format) => files.push(SourceFile { path, folder, format }),
                None => self.snapshot.ignored.push(path),
            }
        }
        files
    }

    fn trouble(&mut self, path: &Path, cause: Cause) {
        self.troubled.push(path.to_owned());
        self.snapshot.problems.push(Problem {
            place: Place::file(path),
            destination: None,
            cause,
        });
    }

    fn read(&mut self, file: SourceFile) -> Option<Document> {
        self.inputs.files.insert(file.path.clone());
        let content = match disk::read(&file.path, MAX_FILE_SIZE) {
            // Removed between listing and reading: the same as removed before.
            Err(disk::ReadError::NotFound) => return None,
            Err(error) => Err((None, Cause::Unreadable(error))),
            Ok(bytes) => parse(&bytes, file.format),
        };
        let problem = |(position, cause)| Problem {
            place: Place {
                file: file.path.as_path().into(),
                position,
            },
            destination: None,
            cause,
        };
        let content = content.map_err(problem);
        Some(Document { file, content })
    }

    /// Every file that some value refers to, which is watched too.
    fn note_references(&mut self, documents: &[Document]) -> HashSet<PathBuf> {
        let mut referenced = HashSet::new();
        for document in documents {
            let nodes = document.content.as_ref().map_or(&[][..], Vec::as_slice);
            for path in nodes
                .iter()
                .flat_map(|node| files_in(node, &document.file.folder))
            {
                referenced.extend(fs::canonicalize(&path));
                self.inputs.files.insert(path);
            }
        }
        referenced
    }

    fn destinations(&mut self, document: Document) {
        let file = &document.file;
        let nodes = match document.content {
            Ok(nodes) => nodes,
            Err(problem) => {
                self.troubled.push(file.path.clone());
                self.snapshot.problems.push(problem);
                return;
            }
        };
        let at = nodes.first().map_or(Position::START, |node| node.at);
        let mut raws = Vec::new();
        let mut problems = Vec::new();
        for node in nodes {
            collect(node, &mut raws, &mut problems);
        }
        if raws.is_empty() && problems.is_empty() {
            problems.push((at, Cause::Empty));
        }
        for (position, cause) in problems {
            self.file_problem(file, position, None, cause);
        }
        let is_open_to_all = disk::is_open_to_all(&file.path);
        for raw in raws {
            self.destination(file, raw, is_open_to_all);
        }
    }

    fn file_problem(
        &mut self,
        file: &SourceFile,
        position: Position,
        destination: Option<String>,
        cause: Cause,
    ) {
        self.troubled.push(file.path.clone());
        self.snapshot.problems.push(Problem {
            place: place(file, position),
            destination,
            cause,
        });
    }

    fn destination(&mut self, file: &SourceFile, raw: Raw, is_open_to_all: bool) {
        let at = raw.at;
        let resolved = resolve(file, raw, self.environment);
        let asked = RefCell::default();
        let stores = FolderStores {
            folder: &file.folder,
            asked: &asked,
        };
        let mut interpretation = interpret(&resolved.properties, &stores, Source::Files);
        if is_open_to_all {
            interpretation.warnings.extend(resolved.exposed());
        }
        self.inputs.files.append(&mut asked.borrow_mut());
        let outcome = resolved.outcome(interpretation, file, at);
        let place = place(file, resolved.place_of("Name").unwrap_or(at));
        let Some(name) = outcome.name else {
            self.troubled.push(file.path.clone());
            self.snapshot.problems.extend(outcome.problems);
            let hints = outcome.warnings.into_iter().map(|(place, warning)| Problem {
                place,
                destination: None,
                cause: Cause::Hint(warning),
            });
            self.snapshot.problems.extend(hints);
            return;
        };
        if !self.claim(&name, &place) {
            return;
        }
        let last_good = self.last_good(&name);
        let state = match outcome.destination {
            Some(destination) => State::Ok(reuse(destination, last_good)),
            None => State::Broken {
                problems: outcome.problems,
                last_good,
            },
        };
        self.snapshot.destinations.push(Loaded {
            name,
            origin: place,
            state,
            warnings: outcome.warnings,
        });
    }

    /// The first destination of a name has it; false for all others.
    fn claim(&mut self, name: &DestinationName, place: &Place) -> bool {
        let key = name.as_str().to_ascii_lowercase();
        let Some((other, first)) = self.places.get(&key) else {
            self.places.insert(key, (name.clone(), place.clone()));
            return true;
        };
        self.snapshot.problems.push(Problem {
            place: place.clone(),
            destination: Some(name.to_string()),
            cause: Cause::DuplicateName {
                name: other.to_string(),
                first: first.clone(),
            },
        });
        false
    }

    fn last_good(&self, name: &DestinationName) -> Option<Arc<Destination>> {
        let mut loaded = self.previous?.destinations.iter();
        loaded.find(|loaded| loaded.name == *name)?.current().cloned()
    }

    fn keep_destinations_of_troubled_files(&mut self) {
        let previous = self.previous.map_or(&[][..], |p| &p.destinations);
        for loaded in previous {
            let key = loaded.name.as_str().to_ascii_lowercase();
            let Some(last_good) = loaded.current() else {
                continue;
            };
            if self.places.contains_key(&key) || !concerns(&self.troubled, &loaded.origin.file) {
                continue;
            }
            self.snapshot.destinations.push(Loaded {
                state: State::Broken {
                    problems: Vec::new(),
                    last_good: Some(last_good.clone()),
                },
                ..loaded.clone()
            });
        }
    }
}

/// The same configuration keeps its identity, so that nobody downstream starts anew.
fn reuse(destination: Destination, last_good: Option<Arc<Destination>>) -> Arc<Destination> {
    match last_good {
        Some(last_good) if *last_good == destination => last_good,
        _ => Arc::new(destination),
    }
}

fn place(file: &SourceFile, position: Position) -> Place {
    Place {
        file: file.path.as_path().into(),
        position: Some(position),
    }
}

/// Sorted, hidden ones left out: Kubernetes' `..data`, editors' swap files.
fn file_names(folder: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let bytes = name.as_encoded_bytes();
        if !bytes.starts_with(b".") && !bytes.ends_with(b"~") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn format(path: &Path) -> Option<Format> {
    let Some(extension) = path.extension() else {
        return Some(Format::Sniff);
    };
    match extension.to_ascii_lowercase().to_str() {
        Some("json") => Some(Format::Json),
        Some("yaml" | "yml") => Some(Format::Yaml),
        Some("properties") => Some(Format::Export),
        Some("txt") => Some(Format::Sniff),
        _ => None,
    }
}

fn is_store(path: &Path) -> bool {
    let stores = ["p12", "pfx", "pem", "crt", "cer", "der", "jks", "key"];
    let extension = path.extension().and_then(OsStr::to_str);
    extension.is_some_and(|e| stores.iter().any(|s| s.eq_ignore_ascii_case(e)))
}

/// A password beside the destination that refers to it is no destination of its own.
fn is_only_referenced(document: &Document, referenced: &HashSet<PathBuf>) -> bool {
    document.file.format == Format::Sniff
        && fs::canonicalize(&document.file.path).is_ok_and(|path| referenced.contains(&path))
}

type Content = Result<Vec<Spanned<Node>>, (Option<Position>, Cause)>;

fn parse(bytes: &[u8], format: Format) -> Content {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| not_utf8(bytes, error.valid_up_to()))?;
    if text.trim().is_empty() {
        return Err((None, Cause::Empty));
    }
    let looks_like_json = text.trim_start().starts_with(['{', '[']);
    let (format, result) = match format {
        Format::Yaml => ("YAML", yaml::parse(text)),
        Format::Json => ("JSON", json::parse(text).map(|node| vec![node])),
        Format::Sniff if looks_like_json => ("JSON", json::parse(text).map(|node| vec![node])),
        Format::Export | Format::Sniff => {
            let result = export::parse(text).map(|node| vec![node]);
            ("key=value text", result)
        }
    };
    if let Ok(
        [
            Spanned {
                at,
                value: Node::Map(entries),
            },
        ],
    ) = result.as_deref()
        && entries.is_empty()
    {
        return Err((Some(*at), Cause::Empty));
    }
    result.map_err(|SyntaxError { at, message }| (Some(at), Cause::Syntax { format, message }))
}

fn not_utf8(bytes: &[u8], valid: usize) -> (Option<Position>, Cause) {
    let text = String::from_utf8_lossy(&bytes[..valid]);
    let line = text.matches('\n').count() + 1;
    let last = text.rsplit('\n').next().unwrap_or_default();
    let column = last.chars().count() + 1;
    (Some(Position { line, column }), Cause::NotUtf8)
}

fn files_in(node: &Spanned<Node>, folder: &Path) -> Vec<PathBuf> {
    match &node.value {
        Node::Null => Vec::new(),
        Node::Text(text) => references::files(text, folder),
        Node::List(items) => items.iter().flat_map(|item| files_in(item, folder)).collect(),
        Node::Map(entries) => entries
            .iter()
            .flat_map(|entry| files_in(&entry.value, folder))
            .collect(),
    }
}

/// The wrapper of the Destination service's find API, with or without its other parts.
const WRAPPER: &str = "destinationConfiguration";
const WRAPPER_PARTS: &[&str] = &["owner", "authTokens", "certificates", "metadata", "fragment"];

/// The destinations of one value: one, a list of them, wrapped or not.
fn collect(node: Spanned<Node>, raws: &mut Vec<Raw>, problems: &mut Vec<(Position, Cause)>) {
    let at = node.at;
    match node.value {
        Node::Null => {}
        Node::List(items) => {
            for item in items {
                match item.value {
                    Node::Map(entries) => collect_map(item.at, entries, raws, problems),
                    _ => problems.push((item.at, Cause::NotADestination)),
                }
            }
        }
        Node::Map(entries) => collect_map(at, entries, raws, problems),
        Node::Text(_) => problems.push((at, Cause::NotADestination)),
    }
}

fn collect_map(
    at: Position,
    entries: Vec<Entry>,
    raws: &mut Vec<Raw>,
    problems: &mut Vec<(Position, Cause)>,
) {
    if entries.is_empty() {
        problems.push((at, Cause::NotADestination));
        return;
    }
    if entries.iter().all(|entry| entry.key.value != WRAPPER) {
        raws.push(Raw { at, entries });
        return;
    }
    for entry in entries {
        let key = entry.key.value.as_str();
        match entry.value.value {
            Node::Map(entries) if key == WRAPPER => raws.push(Raw {
                at: entry.value.at,
                entries,
            }),
            _ if key == WRAPPER => problems.push((entry.value.at, Cause::NotADestination)),
            _ if WRAPPER_PARTS.contains(&key) => {}
            _ => problems.push((entry.key.at, Cause::BesideConfiguration(quoted(key)))),
        }
    }
}

/// Properties with their references replaced, and where each was written.
struct Resolved {
    properties: Properties,
    positions: HashMap<String, Position>,
    /// Property, where, and what is wrong.
    problems: Vec<(String, Position, Cause)>,
}

struct Outcome {
    name: Option<DestinationName>,
    destination: Option<Destination>,
    problems: Vec<Problem>,
    warnings: Vec<(Place, Warning)>,
}

fn resolve(file: &SourceFile, raw: Raw, environment: &Environment) -> Resolved {
    let mut resolved = Resolved {
        properties: Properties::default(),
        positions: HashMap::new(),
        problems: Vec::new(),
    };
    for Entry { key, value } in raw.entries {
        let property = key.value;
        if let Some(first) = resolved.positions.get(&property) {
            let first = first.line;
            let shown = property_name(&property);
            let cause = Cause::DuplicateProperty {
                property: shown,
                first,
            };
            resolved.problems.push((property, key.at, cause));
            continue;
        }
        resolved.positions.insert(property.clone(), key.at);
        match value.value {
            Node::Null => {}
            Node::Text(text) => resolved.insert(property, key.at, &text, file, environment),
            Node::List(_) | Node::Map(_) => {
                let shown = property_name(&property);
                let cause = Cause::NotAText { property: shown };
                resolved.problems.push((property, key.at, cause));
            }
        }
    }
    resolved
}

impl Resolved {
    fn insert(
        &mut self,
        property: String,
        at: Position,
        text: &Zeroizing<String>,
        file: &SourceFile,
        environment: &Environment,
    ) {
        match references::expand(text, &file.folder, environment) {
            Ok(expanded) => {
                if expanded.referenced {
                    self.properties.hide(property.clone());
                }
                self.properties.insert(property, expanded.text.as_str());
            }
            Err(error) => {
                let shown = property_name(&property);
                let cause = Cause::Reference {
                    property: shown,
                    error,
                };
                self.problems.push((property, at, cause));
            }
        }
    }

    /// The first secret that is in the file itself.
    fn exposed(&self) -> Option<Warning> {
        let written = |name: &&str| {
            let value = self.properties.get(name).unwrap_or_default();
            is_secret(name) && !value.is_empty() && !self.properties.is_hidden(name)
        };
        let property = self
            .properties
            .names()
            .filter(written)
            .min_by_key(|name| self.place_of(name))?;
        Some(Warning {
            property: property.to_owned(),
            message: "is in a file that every user of this machine can read; chmod 600 the file, or write \
                      ${env:NAME} or ${file:PATH} in place of the secret"
                .to_owned(),
        })
    }

    fn place_of(&self, property: &str) -> Option<Position> {
        self.positions.get(property).copied()
    }

    fn is_unread(&self, property: &str) -> bool {
        self.problems.iter().any(|(other, _, _)| other == property)
    }

    /// Puts places to what the interpretation says. What only follows from a property
    /// that could not be read is left out.
    fn outcome(&self, interpretation: Interpretation, file: &SourceFile, at: Position) -> Outcome {
        let (destination, invalid) = match interpretation.destination {
            Ok(destination) => (Some(destination), Vec::new()),
            Err(invalid) => (None, invalid),
        };
        let name_is_bad = invalid.iter().any(|invalid| invalid.property == "Name");
        let name = self.properties.get("Name").filter(|_| !name_is_bad);
        let name = name.map(DestinationName::new_unchecked);
        let problem = |(position, cause)| Problem {
            place: place(file, position),
            destination: name.as_ref().map(DestinationName::to_string),
            cause,
        };
        let problems: Vec<Problem> = self.causes(invalid, at).into_iter().map(problem).collect();
        Outcome {
            destination: destination.filter(|_| problems.is_empty()),
            problems,
            warnings: self.warnings(interpretation.warnings, file, at),
            name,
        }
    }

    /// In the order of the file.
    fn causes(&self, invalid: Vec<Invalid>, at: Position) -> Vec<(Position, Cause)> {
        let own = self
            .problems
            .iter()
            .map(|(_, position, cause)| (*position, cause.clone()));
        let mut causes: Vec<(Position, Cause)> = own.collect();
        for invalid in invalid.into_iter().filter(|i| !self.is_unread(&i.property)) {
            let position = self.place_of(&invalid.property).unwrap_or(at);
            causes.push((position, Cause::Invalid(invalid)));
        }
        causes.sort_by_key(|(position, _)| *position);
        causes
    }

    fn warnings(&self, warnings: Vec<Warning>, file: &SourceFile, at: Position) -> Vec<(Place, Warning)> {
        let placed = |warning: Warning| {
            let position = self.place_of(&warning.property).unwrap_or(at);
            (place(file, position), warning)
        };
        let read = warnings.into_iter().filter(|w| !self.is_unread(&w.property));
        read.map(placed).collect()
    }
}
