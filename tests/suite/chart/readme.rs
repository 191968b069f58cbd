//! The table of values in the chart's README is made of the comments in `values.yaml`.

use std::fmt::Write as _;
use std::fs;

use serde_json::Value;

use super::chart;

const BEGIN: &str = "<!-- values: made of the comments in values.yaml -->\n";
const END: &str = "<!-- end of values -->";
/// Makes the test write the table instead of comparing it.
const UPDATE: &str = "UPDATE_README";

struct Row {
    path: String,
    default: String,
    meaning: String,
}

/// The lines with a value, and the comments right above them.
fn rows(text: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut parents: Vec<(usize, &str)> = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    for line in text.lines() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        if let Some(words) = trimmed.strip_prefix('#') {
            comment.push(words.trim());
        } else if trimmed.is_empty() {
            comment.clear();
        } else {
            let (key, default) = trimmed.split_once(':').expect("a key");
            parents.retain(|(deeper, _)| *deeper < indent);
            let default = default.trim();
            let meaning = std::mem::take(&mut comment).join(" ");
            if default.is_empty() {
                assert!(meaning.is_empty(), "{key}: only values have a comment");
                parents.push((indent, key));
                continue;
            }
            let path = parents.iter().map(|(_, parent)| *parent).chain([key]);
            rows.push(Row {
                path: path.collect::<Vec<_>>().join("."),
                default: default.to_owned(),
                meaning,
            });
        }
    }
    rows
}

fn table() -> String {
    let values = fs::read_to_string(chart().join("values.yaml")).unwrap();
    let mut table = "\n| Value | Default | Meaning |\n| --- | --- | --- |\n".to_owned();
    for row in rows(&values) {
        assert!(!row.meaning.is_empty(), "{} has no comment", row.path);
        let meaning = row.meaning.replace('|', "\\|").replace('<', "&lt;");
        writeln!(table, "| `{}` | `{}` | {meaning} |", row.path, row.default).unwrap();
    }
    table + "\n"
}

#[test]
fn the_readme_lists_every_value_with_its_default() {
    let file = chart().join("README.md");
    let readme = fs::read_to_string(&file).unwrap();
    let (before, rest) = readme.split_once(BEGIN).expect("the begin of the table");
    let (there, after) = rest.split_once(END).expect("the end of the table");
    let table = table();
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&file, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
        return;
    }
    assert!(
        there == table,
        "the table of values in the chart's README is old: run this test once with {UPDATE}=1"
    );
}

/// Keys of the schema that `values.yaml` leaves out on purpose: another spelling.
const UNLISTED: &[&str] = &["request"];

fn assert_listed(path: &str, schema: &Value, definitions: &Value, values: &Value) {
    let schema = match schema["$ref"].as_str() {
        Some(name) => &definitions[name.rsplit('/').next().unwrap()],
        None => schema,
    };
    let Some(values) = values.as_object().filter(|values| !values.is_empty()) else {
        return;
    };
    for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
        match values.get(key) {
            Some(value) => assert_listed(&format!("{path}.{key}"), schema, definitions, value),
            None => assert!(
                UNLISTED.contains(&key.as_str()) || key == "global",
                "values.yaml lacks {path}.{key}"
            ),
        }
    }
}

#[test]
fn every_value_that_is_accepted_is_listed() {
    let read = |name: &str| fs::read_to_string(chart().join(name)).unwrap();
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let values: Value = serde_saphyr::from_str(&read("values.yaml")).unwrap();
    assert_listed("", &schema, &schema["definitions"], &values);
}

#[test]
fn rows_are_values_with_the_comments_above_them() {
    let rows = rows("# title\n\na:\n  # One\n  # line.\n  b: 1\n  c:\n    d: {x: y}\ne: \"\"\n");
    let rows: Vec<_> = rows
        .iter()
        .map(|row| [&*row.path, &row.default, &row.meaning])
        .collect();
    assert_eq!(
        rows,
        [
            ["a.b", "1", "One line."],
            ["a.c.d", "{x: y}", ""],
            ["e", "\"\"", ""]
        ]
    );
}
