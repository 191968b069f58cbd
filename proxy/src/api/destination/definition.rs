//! The `CustomResourceDefinition` of [`Destination`], as API servers get it.
//!
//! Derived from the Rust types, then given what types cannot say. What it accepts, refuses, fills
//! in and drops is pinned by `tests/data/manifests`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition as Column, CustomResourceDefinition, JSON, JSONSchemaProps,
    JSONSchemaPropsOrArray, ValidationRule,
};
use kube::CustomResourceExt as _;
use serde_json::json;

use super::Destination;

pub const CRD_NAME: &str = "destinations.destination.connectivity.api.sap";

const DESCRIPTION: &str =
    "A destination that is reachable inside of the cluster by the name of this resource.";

/// Name, path and type, in the order in which `kubectl get` shows them.
const COLUMNS: [(&str, &str, &str); 8] = [
    ("Age", ".metadata.creationTimestamp", "date"),
    ("DestinationRef", ".spec.destinationRef.name", "string"),
    ("FragmentRef", ".spec.fragmentRef.name", "string"),
    (
        "DestinationServiceInstanceName",
        ".spec.destinationServiceInstanceName",
        "string",
    ),
    ("ServicePort", ".spec.service.port", "string"),
    ("AccessControlScope", ".spec.accessControl.scope", "string"),
    ("ChainRef", ".spec.chainRef.name", "string"),
    ("Status", ".status.conditions[-1].reason", "string"),
];

pub fn definition() -> CustomResourceDefinition {
    let mut definition = Destination::crd();
    for version in &mut definition.spec.versions {
        version.additional_printer_columns = Some(COLUMNS.map(column).into());
        let schema = version.schema.as_mut();
        if let Some(schema) = schema.and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            plain(schema);
            complete(schema);
            schema.description = Some(DESCRIPTION.to_owned());
        }
    }
    definition
}

fn column((name, path, kind): (&str, &str, &str)) -> Column {
    Column {
        name: name.to_owned(),
        json_path: path.to_owned(),
        type_: kind.to_owned(),
        ..Column::default()
    }
}

/// The derived schema lets everything optional be `null`, which differs from being absent, and
/// names formats, bounds and titles of Rust's types.
fn plain(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.title = None;
    if let Some(values) = &mut schema.enum_ {
        values.retain(|value| !value.0.is_null());
    }
    schema.format = None;
    schema.minimum = None;
    schema.maximum = None;
    for property in schema.properties.iter_mut().flat_map(|all| all.values_mut()) {
        plain(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        plain(items);
    }
}

/// What the types do not say.
fn complete(schema: &mut JSONSchemaProps) {
    let spec = at(schema, &["spec"]);
    at(spec, &["destinationRef", "name"]).min_length = Some(1);
    fragment(at(spec, &["fragmentRef"]));
    let port = at(spec, &["service", "port"]);
    port.minimum = Some(1.0);
    port.maximum = Some(65535.0);
    let triggers = at(items(at(spec, &["actions"])), &["triggers"]);
    triggers.min_items = Some(1);
    trigger(items(triggers));
    let conditions = at(schema, &["status", "conditions"]);
    at(items(conditions), &["status"]).pattern = Some("^(True|False|Unknown)$".to_owned());
}

fn fragment(schema: &mut JSONSchemaProps) {
    at(schema, &["optional"]).default = Some(JSON(json!(false)));
    schema.x_kubernetes_validations = Some(vec![ValidationRule {
        rule: "!(has(self.level) && !has(self.name))".to_owned(),
        message: Some("fragmentRef.level can only be specified when fragmentRef.name is provided".to_owned()),
        ..ValidationRule::default()
    }]);
}

/// Either kind of trigger needs something of its own; what belongs to the other one may be there.
fn trigger(schema: &mut JSONSchemaProps) {
    for list in ["destinationProperties", "destinationLabelKeys"] {
        non_empty(at(schema, &[list]));
    }
    let matches = at(schema, &["matches"]);
    matches.min_items = Some(1);
    match_(items(matches));
    schema.one_of = Some(vec![
        JSONSchemaProps {
            any_of: Some(vec![
                required(&["destinationProperties"]),
                required(&["destinationLabelKeys"]),
            ]),
            ..named("exist", &[])
        },
        named("exactMatch", &["matches"]),
    ]);
}

fn match_(schema: &mut JSONSchemaProps) {
    const PROPERTY: [&str; 2] = ["destinationProperty", "value"];
    const LABEL: [&str; 2] = ["destinationLabelKey", "values"];
    at(schema, &[PROPERTY[0]]).min_length = Some(1);
    at(schema, &[LABEL[0]]).min_length = Some(1);
    non_empty(at(schema, &[LABEL[1]]));
    schema.one_of = Some(vec![
        required(&PROPERTY).without(&LABEL),
        required(&LABEL).without(&PROPERTY),
    ]);
}

/// A list of strings, neither of which may be empty.
fn non_empty(list: &mut JSONSchemaProps) {
    list.min_items = Some(1);
    items(list).min_length = Some(1);
}

fn named(name: &str, fields: &[&str]) -> JSONSchemaProps {
    let only = JSONSchemaProps {
        enum_: Some(vec![JSON(json!(name))]),
        ..JSONSchemaProps::default()
    };
    JSONSchemaProps {
        properties: Some([("name".to_owned(), only)].into()),
        ..required(fields)
    }
}

fn required(fields: &[&str]) -> JSONSchemaProps {
    let fields: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
    JSONSchemaProps {
        required: Some(fields).filter(|fields| !fields.is_empty()),
        ..JSONSchemaProps::default()
    }
}

trait Without {
    fn without(self, fields: &[&str]) -> Self;
}

impl Without for JSONSchemaProps {
    fn without(self, fields: &[&str]) -> Self {
        let any = fields.iter().map(|field| required(&[field])).collect();
        Self {
            not: Some(Box::new(Self {
                any_of: Some(any),
                ..Self::default()
            })),
            ..self
        }
    }
}

fn at<'a>(schema: &'a mut JSONSchemaProps, path: &[&str]) -> &'a mut JSONSchemaProps {
    path.iter().fold(schema, |schema, name| {
        let properties = schema.properties.as_mut();
        properties
            .and_then(|all| all.get_mut(*name))
            .expect("the types have this field")
    })
}

fn items(schema: &mut JSONSchemaProps) -> &mut JSONSchemaProps {
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => items,
        _ => panic!("the types have a list here"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_has_the_name_that_it_is_known_by() {
        assert_eq!(definition().metadata.name.as_deref(), Some(CRD_NAME));
    }
}
