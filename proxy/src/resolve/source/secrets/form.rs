//! How a Secret writes its properties: each as a data key, or all as the JSON of an export.

use super::data_keys::DataKeys;
use crate::resolve::destination::known::is_known;
use crate::resolve::destination::{Invalid, Problem, Warning};
use crate::resolve::properties::Properties;
use crate::resolve::source::document::{Entry, Node, SyntaxError};
use crate::resolve::source::json;

/// Properties whose value is the key of a store.
const LOCATIONS: [&str; 3] = [
    "KeyStoreLocation",
    "TrustStoreLocation",
    "tokenService.KeyStoreLocation",
];

/// Around the properties in answers of the Destination service.
const WRAPPER: &str = "destinationConfiguration";

/// The properties as written, and what is wrong with the writing.
#[derive(Default)]
pub(super) struct Written {
    pub(super) properties: Properties,
    pub(super) problems: Vec<Invalid>,
    pub(super) warnings: Vec<Warning>,
}

/// The properties that the data keys hold.
pub(super) fn read(keys: &DataKeys) -> Written {
    let mut written = Written::default();
    match json_keys(keys).as_slice() {
        [] => written.read_keys(keys),
        [key] => written.read_json(key, keys),
        [key, other, ..] => written.refuse(key, Problem::SeveralDestinations((*other).to_owned())),
    }
    written
}

/// Keys that hold a JSON object or list, unless `Type` is a key: then all keys are properties.
fn json_keys(keys: &DataKeys) -> Vec<&str> {
    if keys.names().any(|name| name == "Type") {
        return Vec::new();
    }
    let is_json = |name: &&str| {
        keys.text(name)
            .is_some_and(|text| without_mark(text).starts_with(['{', '[']))
    };
    keys.names().filter(is_json).collect()
}

/// Without byte order mark and blanks.
fn without_mark(text: &str) -> &str {
    text.trim_start_matches('\u{feff}').trim()
}

impl Written {
    fn refuse(&mut self, property: &str, problem: Problem) {
        self.problems.push(Invalid {
            property: property.to_owned(),
            problem,
        });
    }

    fn warn(&mut self, property: &str, message: &str) {
        self.warnings.push(Warning {
            property: property.to_owned(),
            message: message.to_owned(),
        });
    }

    fn read_keys(&mut self, keys: &DataKeys) {
        let locations = LOCATIONS.iter().filter_map(|property| keys.text(property));
        let stores: Vec<&str> = locations.map(str::trim).collect();
        for name in keys.names().filter(|name| !stores.contains(name)) {
            match keys.text(name) {
                Some(text) => drop(self.properties.insert(name, text)),
                None if is_known(name) => self.refuse(name, Problem::NotText),
                None => self.warn(
                    name,
                    "is neither text nor a key store that a property names, and is ignored",
                ),
            }
        }
    }

    fn read_json(&mut self, key: &str, keys: &DataKeys) {
        let text = keys.text(key).map(without_mark).unwrap_or_default();
        let node = match json::parse(text) {
            Ok(node) => node.value,
            Err(error) => return self.refuse(key, syntax(&error)),
        };
        match node {
            Node::Map(entries) => self.read_object(key, entries),
            Node::List(_) | Node::Text(_) | Node::Null => self.refuse(key, Problem::NotAnObject),
        }
        for name in keys.names().filter(|name| *name != key && is_known(name)) {
            self.warn(name, BESIDE_JSON);
        }
    }

    fn read_object(&mut self, key: &str, entries: Vec<Entry>) {
        if entries.iter().all(|entry| entry.key.value != WRAPPER) {
            return self.insert_all(entries);
        }
        for entry in entries {
            let name = entry.key.value.as_str();
            match entry.value.value {
                Node::Map(entries) if name == WRAPPER => self.insert_all(entries),
                _ if name == WRAPPER => self.refuse(key, Problem::NotAnObject),
                _ if is_known(name) => self.warn(name, BESIDE_WRAPPER),
                _ => {}
            }
        }
    }

    fn insert_all(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            let name = entry.key.value;
            match entry.value.value {
                _ if self.properties.contains(&name) => self.refuse(&name, Problem::SetTwice),
                Node::Text(text) => drop(self.properties.insert(name, text.as_str())),
                Node::Null => {}
                Node::List(_) | Node::Map(_) => self.refuse(&name, Problem::NotAValue),
            }
        }
    }
}

fn syntax(error: &SyntaxError) -> Problem {
    Problem::NotJson {
        line: error.at.line,
        column: error.at.column,
        message: error.message.clone(),
    }
}

const BESIDE_JSON: &str = "is a key beside the JSON with the properties and is ignored; put it into the JSON";
const BESIDE_WRAPPER: &str =
    "is beside destinationConfiguration and is ignored; properties belong inside destinationConfiguration";
