//! The JSON Schema for editors, made from the list of known properties.

use serde_json::{Map, Value, json};

use super::known::{Kind, Known, PROPERTIES};

/// Schema of a JSON or YAML file: one destination, or a list of them.
pub fn destination_file() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Destinations of transparent-proxy",
        "oneOf": [
            { "$ref": "#/$defs/entry" },
            { "type": "array", "items": { "$ref": "#/$defs/entry" } },
        ],
        "$defs": {
            "entry": { "oneOf": [{ "$ref": "#/$defs/destination" }, { "$ref": "#/$defs/wrapped" }] },
            "wrapped": {
                "type": "object",
                "required": ["destinationConfiguration"],
                "properties": { "destinationConfiguration": { "$ref": "#/$defs/destination" } },
            },
            "destination": destination(),
            "reference": { "type": "string", "pattern": r"\$\{(env|file):[^}]+\}" },
        },
    })
}

fn destination() -> Value {
    let (prefixes, names): (Vec<&Known>, Vec<&Known>) =
        PROPERTIES.iter().partition(|known| known.name.ends_with('.'));
    let properties: Map<String, Value> = names
        .into_iter()
        .map(|known| (known.name.to_owned(), property(known)))
        .collect();
    let patterns: Map<String, Value> = prefixes
        .into_iter()
        .map(|known| (pattern(known.name), property(known)))
        .collect();
    json!({
        "type": "object",
        "required": ["Name", "Type"],
        "properties": properties,
        "patternProperties": patterns,
        "additionalProperties": { "type": ["string", "number", "boolean", "null"] },
        "not": { "required": ["destinationConfiguration"] },
        "allOf": [
            when("Type", "HTTP", &["URL"]),
            when("Type", "TCP", &["Address"]),
            when("Authentication", "BasicAuthentication", &["User", "Password"]),
            when("Authentication", "ClientCertificateAuthentication", &["KeyStoreLocation"]),
            when("Authentication", "OAuth2ClientCredentials", &["clientId", "tokenServiceURL"]),
            when("Authentication", "OAuth2Password", &["clientId", "tokenServiceURL", "User", "Password"]),
        ],
    })
}

fn pattern(prefix: &str) -> String {
    format!("^{}.+$", prefix.replace('.', r"\."))
}

fn property(known: &Known) -> Value {
    let mut schema = kind(known.kind);
    schema.insert("description".to_owned(), known.description.into());
    if let Some(default) = known.default {
        schema.insert("default".to_owned(), default.into());
    }
    Value::Object(schema)
}

/// Every value may be a reference, and numbers and booleans may be texts.
fn kind(kind: Kind) -> Map<String, Value> {
    let reference = json!({ "$ref": "#/$defs/reference" });
    let schema = match kind {
        Kind::Text | Kind::Secret => json!({ "type": ["string", "number", "boolean", "null"] }),
        Kind::Boolean => json!({
            "anyOf": [{ "type": ["boolean", "null"] }, any_case(&["true", "false"]), reference],
        }),
        Kind::Integer(min, max) => json!({
            "anyOf": [
                { "type": "integer", "minimum": min, "maximum": max },
                { "type": "string", "pattern": "^-?[0-9]+$" },
                { "type": "null" },
                reference,
            ],
        }),
        Kind::Choice(values) => json!({
            "anyOf": [{ "enum": values }, any_case(values), { "type": "null" }, reference],
        }),
    };
    match schema {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// JSON Schema's patterns know no case folding, so each letter is written twice.
fn any_case(values: &[&str]) -> Value {
    let either = |c: char| {
        if c.is_ascii_alphabetic() {
            format!("[{}{}]", c.to_ascii_uppercase(), c.to_ascii_lowercase())
        } else {
            c.to_string()
        }
    };
    let values: Vec<String> = values.iter().map(|v| v.chars().map(either).collect()).collect();
    json!({ "type": "string", "pattern": format!("^({})$", values.join("|")) })
}

fn when(property: &str, value: &str, required: &[&str]) -> Value {
    json!({
        "if": { "properties": { property: any_case(&[value]) }, "required": [property] },
        "then": { "required": required },
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// `UPDATE_SCHEMA=1 cargo test -p transparent-proxy schema` writes the file anew.
    #[test]
    fn the_committed_schema_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/destination.schema.json");
        let schema = serde_json::to_string_pretty(&destination_file()).unwrap() + "\n";
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            fs::write(&path, &schema).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap();
        assert!(
            committed == schema,
            "run with UPDATE_SCHEMA=1 and commit the result"
        );
    }

    #[test]
    fn the_reference_page_names_every_property_with_its_default() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/destinations.md");
        let page = fs::read_to_string(page).unwrap();
        for known in PROPERTIES {
            let start = format!("| `{}", known.name);
            let row = page.lines().find(|line| line.starts_with(&start));
            let row = row.unwrap_or_else(|| panic!("no row for {}", known.name));
            if let Some(default) = known.default {
                assert!(row.contains(&format!("`{default}`")), "{row}");
            }
        }
    }
}
