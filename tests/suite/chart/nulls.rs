//! A key without a value (`level:`) is a null, and of that Helm makes no default: it takes the key away.
//! <https://helm.sh/docs/chart_template_guide/values_files/#deleting-a-default-key>

use std::fs;

use serde_json::{Value, json};

use super::chart;
use super::helm::template;
use super::rendering::config;

/// Where a null has a meaning of its own: no limit, or a label of nodes that does not matter.
const MEANT: &[&str] = &[
    "/deployment/resources/http/limits",
    "/deployment/resources/tcp/limits",
    "/deployment/resources/manager/limits",
    "/deployment/resources/healthcheck/limits",
    "/deployment/nodeSelector/",
    "/deployment/central/nodeSelector/",
];

/// Keys of maps, at any depth; each is a list of names.
fn keys(values: &Value) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for (key, value) in values.as_object().into_iter().flatten() {
        all.push(vec![key.clone()]);
        all.extend(
            keys(value)
                .into_iter()
                .map(|deeper| [vec![key.clone()], deeper].concat()),
        );
    }
    all
}

fn null_at(key: &[String]) -> String {
    let nested = |inner: Value, name: &String| json!({ name.as_str(): inner });
    key.iter().rev().fold(Value::Null, nested).to_string()
}

/// Nothing, or what is wrong about how a null there is taken.
fn mistake(key: &[String]) -> Option<String> {
    let path = format!("/{}", key.join("/"));
    let (parent, name) = path.rsplit_once('/').expect("it begins with a slash");
    let may_be_null = MEANT.iter().any(|meant| path.starts_with(meant));
    match template(&null_at(key)) {
        Err(said) if may_be_null => Some(format!("{path} is refused: {said}")),
        Err(said) => {
            let named = said.contains(&format!("at '{parent}': missing property '{name}'"));
            (!named).then(|| format!("{path} is not named: {said}"))
        }
        Ok(_) if !may_be_null => Some(format!("{path} is taken")),
        Ok(rendered) => {
            config(&rendered);
            let manager = rendered.get("Deployment", "sap-transp-proxy-manager");
            let managers = &manager.json["spec"]["replicas"];
            (managers.as_u64() < Some(1)).then(|| format!("{path}: {managers} managers"))
        }
    }
}

#[test]
fn a_null_is_refused_by_its_path_or_has_a_meaning() {
    let values = fs::read_to_string(chart().join("values.yaml")).unwrap();
    let keys = keys(&serde_saphyr::from_str(&values).unwrap());
    assert!(keys.len() > 150, "{}", keys.len());
    let mistakes: Vec<String> = std::thread::scope(|scope| {
        let all: Vec<_> = keys
            .chunks(keys.len().div_ceil(4))
            .map(|some| scope.spawn(|| some.iter().filter_map(|key| mistake(key)).collect::<Vec<_>>()))
            .collect();
        all.into_iter().flat_map(|some| some.join().unwrap()).collect()
    });
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
}

#[test]
fn a_null_among_what_is_kubernetes_own_is_refused_by_its_path() {
    for (values, place) in [
        (
            "affinity: {nodeAffinity: null}",
            "/deployment/affinity/nodeAffinity",
        ),
        (
            "central: {affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: null}}}",
            "/deployment/central/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution",
        ),
        ("tolerations: [null]", "/deployment/tolerations/0"),
        ("podLabels: {team: null}", "/deployment/podLabels/team"),
        (
            "updateStrategy: {rollingUpdate: {maxSurge: null}}",
            "/deployment/updateStrategy/rollingUpdate/maxSurge",
        ),
    ] {
        let complaint = template(&format!("deployment: {{{values}}}")).err();
        let complaint = complaint.unwrap_or_else(|| panic!("{values} is taken"));
        assert!(
            complaint.contains(&format!("at '{place}'")),
            "{values}: {complaint}"
        );
    }
}
