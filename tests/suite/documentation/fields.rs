//! Paths of fields, like `actions[].secretRef.name`, in manifests and in what they may be.

use serde_json::Value;
use transparent_proxy::api::destination;

/// Of everything that is set.
pub fn of_value(value: &Value) -> Vec<String> {
    leaves(value, &|value| match value {
        Value::Object(fields) => Node::Fields(fields.iter().collect()),
        Value::Array(items) => Node::Items(items.iter().collect()),
        _ => Node::Leaf,
    })
}

/// Of everything that the specification of a Destination may have.
pub fn of_definition() -> Vec<String> {
    let definition = serde_json::to_value(destination::definition()).unwrap();
    let spec = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    leaves(spec, &|schema| match (&schema["properties"], &schema["items"]) {
        (Value::Object(fields), _) => Node::Fields(fields.iter().collect()),
        (_, items @ Value::Object(_)) => Node::Items(vec![items]),
        _ => Node::Leaf,
    })
}

enum Node<'a> {
    Fields(Vec<(&'a String, &'a Value)>),
    Items(Vec<&'a Value>),
    Leaf,
}

fn leaves<'a>(value: &'a Value, inside: &dyn Fn(&'a Value) -> Node<'a>) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![(String::new(), value)];
    while let Some((path, value)) = open.pop() {
        match inside(value) {
            Node::Fields(fields) => open.extend(fields.into_iter().map(|(name, field)| {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                (path, field)
            })),
            Node::Items(items) => open.extend(items.into_iter().map(|item| (format!("{path}[]"), item))),
            Node::Leaf => found.push(path),
        }
    }
    found
}
