//! What values become.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;

use serde_json::Value;
use transparent_proxy::api::destination::Scope;
use transparent_proxy::config::kubernetes::{File, ManagedNamespacesMode, Read};
use transparent_proxy::telemetry::logging::{Format, Level};

use super::helm::{NAMESPACE, NEWEST, OLDEST, Rendered, Template, lint, template};
use super::objects::Object;
use super::{VALUE_SETS, chart, rendered, values};

/// Object -> its text. Without the definition of destinations, which has tests of its own.
fn documents(rendered: &Rendered) -> BTreeMap<String, String> {
    let texts = rendered.text.split("---\n").filter(|text| !text.is_empty());
    let objects = rendered.objects.iter().map(Object::id);
    let documents = objects.zip(texts.map(without_checksum));
    documents
        .filter(|(id, _)| !id.starts_with("CustomResourceDefinition"))
        .collect()
}

/// It says nothing about the objects that the settings do not say.
fn without_checksum(text: &str) -> String {
    let line = |line: &str| match line.split_once("checksum/config: ") {
        Some((indent, _)) => format!("{indent}checksum/config: [checksum]\n"),
        None => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// What a value set changes: objects that are not there any more, and those that are new or different.
fn difference(default: &BTreeMap<String, String>, other: &BTreeMap<String, String>) -> String {
    let gone = default.keys().filter(|id| !other.contains_key(*id));
    let gone = gone.map(|id| format!("# Gone: {id}\n"));
    let different = other.iter().filter(|(id, text)| default.get(*id) != Some(text));
    gone.chain(different.map(|(_, text)| format!("---\n{text}")))
        .collect()
}

pub(super) fn config(rendered: &Rendered) -> File {
    let map = rendered.get("ConfigMap", "sap-transp-proxy-config");
    let text = map.json["data"]["config.json"].as_str().expect("a file");
    let read = Read::text(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(read.unknown, [""; 0], "{text}");
    read.settings
}

#[test]
fn default_values_become_what_they_became_before() {
    let default = documents(rendered("default"));
    insta::assert_snapshot!("default", difference(&BTreeMap::new(), &default));
}

#[test]
fn value_sets_change_what_they_changed_before() {
    let default = documents(rendered("default"));
    for set in VALUE_SETS.iter().filter(|set| **set != "default") {
        insta::assert_snapshot!(*set, difference(&default, &documents(rendered(set))));
    }
}

#[test]
fn chart_and_program_have_the_same_version() {
    let text = fs::read_to_string(chart().join("Chart.yaml")).unwrap();
    let chart: Value = serde_saphyr::from_str(&text).unwrap();
    for key in ["version", "appVersion"] {
        assert_eq!(chart[key], env!("CARGO_PKG_VERSION"), "{key}");
    }
}

#[test]
fn value_sets_pass_lint() {
    for set in VALUE_SETS {
        lint(&values(set)).unwrap_or_else(|error| panic!("{set}: {error}"));
    }
}

#[test]
fn kubernetes_knows_every_field() {
    for set in VALUE_SETS {
        for object in &rendered(set).objects {
            let Value::Object(read) = object.as_kubernetes_reads_it() else {
                panic!("objects are maps")
            };
            if object.kind() != "CustomResourceDefinition" {
                pretty_assert(&object.id(), &object.json, &Value::Object(read));
            }
        }
    }
}

/// YAML without quotes has numbers, truths and nothings among the names that Kubernetes allows.
#[test]
fn names_are_text_whatever_they_look_like() {
    for name in ["4711", "1e3", "true", "null"] {
        let template = Template {
            release: name,
            namespace: name,
            ..Template::default()
        };
        let values = format!(
            "{{additionalCAs: {{secretName: '{name}', secretKey: '{name}', secretNamespace: '{name}'}}, \
             config: {{clusterDomain: '{name}', integration: {{secrets: {{namespaces: ['{name}0']}}}}}}, \
             deployment: {{image: {{registry: '', repository: '1', tag: '2', pullSecret: '{name}'}}, \
             replicas: {{manager: 2}}, networkPolicy: {{enabled: true}}}}}}"
        );
        let rendered = template.values(&values).unwrap();
        for object in &rendered.objects {
            let read = object.as_kubernetes_reads_it();
            if object.kind() != "CustomResourceDefinition" {
                pretty_assert(&object.id(), &object.json, &read);
            }
        }
        config(&rendered);
    }
}

fn pretty_assert(what: &str, ours: &Value, read: &Value) {
    assert!(ours == read, "{what}\nrendered {ours:#}\nread {read:#}");
}

#[test]
fn the_oldest_kubernetes_gets_no_field_that_it_does_not_know() {
    for (kubernetes, set) in [
        (OLDEST, "default"),
        (OLDEST, "everything"),
        (NEWEST, "default"),
        (NEWEST, "everything"),
    ] {
        let template = Template {
            kubernetes,
            ..Template::default()
        };
        let text = template.values(&values(set)).unwrap().text;
        let new = kubernetes == NEWEST;
        for field in ["matchLabelKeys", "unhealthyPodEvictionPolicy"] {
            assert_eq!(text.contains(field), new, "{field} for {kubernetes}: {set}");
        }
    }
}

#[test]
fn too_old_kubernetes_is_refused() {
    let template = Template {
        kubernetes: "1.24.9",
        ..Template::default()
    };
    let error = template.values("").err().expect("refused");
    assert!(error.contains("requires kubeVersion: >=1.25"), "{error}");
}

#[test]
fn the_proxy_reads_the_settings_of_every_value_set() {
    for set in VALUE_SETS {
        config(rendered(set));
    }
}

#[test]
fn default_values_are_the_defaults_of_the_program() {
    assert_eq!(config(rendered("default")), File::default());
}

#[test]
fn every_setting_arrives() {
    let config = config(rendered("everything"));
    let default = File::default();
    assert_eq!(
        config.managed_namespaces_mode,
        ManagedNamespacesMode::LabelSelector
    );
    assert_eq!(config.default_scope, Scope::ClusterWide);
    assert_eq!(u32::from(config.execution_interval_minutes), 5);
    assert_eq!(config.default_instance_name.as_deref(), Some("secrets"));
    assert_eq!(config.secrets.namespaces, ["billing", "shop"]);
    assert_eq!(config.http.retry.max_retries, 2);
    assert_eq!(config.http.retry.status_codes, [429, 503]);
    assert_eq!(config.logging.level, Level::Debug);
    assert_eq!(config.logging.format, Format::Text);
    assert!(config.logging.access);
    assert!(config.metrics.enabled);
    // The folder of the node is mounted, wherever that is, in the same place.
    assert_eq!(config.ebpf, default.ebpf);
    assert_eq!(config.target_ports.range(), 20_000..=29_999);
    assert_eq!(config.limits.connections_per_pod, 100);
    assert_eq!(config.drain_seconds.duration().as_secs(), 8);
    assert_eq!(config.cluster_domain.as_deref(), Some("cluster.test"));
    let cas = config.additional_cas.unwrap();
    assert_eq!(
        cas.to_string(),
        "the key roots.pem of the Secret pki/company-roots"
    );
}

#[test]
fn without_the_hook_the_program_knows_it_too() {
    assert!(!config(rendered("without-hook")).ebpf.enabled);
}

#[test]
fn other_settings_are_other_pods() {
    let checksum = |values: &str| {
        let rendered = template(values).unwrap();
        let agents = rendered.get("DaemonSet", "sap-transp-proxy");
        agents.json["spec"]["template"]["metadata"]["annotations"]["checksum/config"].clone()
    };
    assert_ne!(checksum(""), checksum("config: {logging: {access: true}}"));
    assert_eq!(checksum(""), checksum("deployment: {image: {pullSecret: x}}"));
}

#[test]
fn an_agent_gets_the_sum_of_both_planes() {
    let resources = |values: &str| {
        let rendered = template(values).unwrap();
        let agents = rendered.get("DaemonSet", "sap-transp-proxy");
        let json = &agents.json["spec"]["template"]["spec"]["containers"][0]["resources"];
        json.to_string()
    };
    let cases = [
        (
            "",
            r#"{"limits":{"cpu":"500m","memory":"576M"},"requests":{"cpu":"250m","memory":"288M"}}"#,
        ),
        // The largest of the recommended sizes.
        (
            "{http: {requests: {cpu: 1.9, memory: 384M}, limits: {cpu: 1.9, memory: 384M}}, tcp: {requests: {cpu: 0.2, memory: 128M}, limits: {cpu: 0.2, memory: 128M}}}",
            r#"{"limits":{"cpu":"2100m","memory":"512M"},"requests":{"cpu":"2100m","memory":"512M"}}"#,
        ),
        // Units need not be the same; what is no whole number of them is bytes.
        (
            "{http: {requests: {cpu: 1500m, memory: 0.5Gi}, limits: {cpu: 4}}, tcp: {requests: {cpu: '2', memory: 32M}, limits: {memory: null}}}",
            r#"{"limits":{"cpu":"4100m"},"requests":{"cpu":"3500m","memory":"568870912"}}"#,
        ),
        // Some files spell it so. Which of both wins where `requests` says the default is in the README.
        (
            "{http: {request: {cpu: 0.3, memory: 1G}, limits: {memory: 2G}}, tcp: {request: {cpu: 0.1}, requests: {cpu: 0.2}}}",
            r#"{"limits":{"cpu":"500m","memory":"2064M"},"requests":{"cpu":"500m","memory":"1032M"}}"#,
        ),
        (
            "{http: {request: {cpu: 0.3}, requests: {cpu: 0.2}}, tcp: {request: {memory: 16M}, requests: {memory: 32M}}}",
            r#"{"limits":{"cpu":"500m","memory":"576M"},"requests":{"cpu":"350m","memory":"272M"}}"#,
        ),
    ];
    for (values, expected) in cases {
        let values = match values {
            "" => String::new(),
            values => format!("deployment: {{resources: {values}}}"),
        };
        assert_eq!(resources(&values), expected, "{values}");
    }
}

/// Otherwise the kubelet would kill it in the middle of its drain.
#[test]
fn an_agent_ends_before_the_kubelets_patience_does() {
    // Connections are accepted for 5 s more; those that are cut then get a moment to notice.
    const BESIDES_THE_DRAIN: u64 = 6;
    for (grace, drain) in [
        (10, 4),
        (11, 5),
        (12, 6),
        (15, 8),
        (20, 10),
        (60, 50),
        (3600, 3590),
    ] {
        let rendered = template(&format!("deployment: {{terminationGracePeriodSeconds: {grace}}}"));
        let seconds = config(&rendered.unwrap()).drain_seconds.duration().as_secs();
        assert_eq!(seconds, drain, "{grace}");
        assert!(seconds + BESIDES_THE_DRAIN <= grace, "{grace}");
    }
}

/// Of `maxSurge` and `maxUnavailable`, Kubernetes takes exactly one that is not 0, and helm merges
/// what users write into the defaults.
#[test]
fn either_number_of_a_rolling_update_can_be_set_alone() {
    let strategy = |values: &str| {
        let values = format!("deployment: {{updateStrategy: {values}}}");
        let rendered = template(&values).unwrap_or_else(|error| panic!("{values}: {error}"));
        let agents = rendered.get("DaemonSet", "sap-transp-proxy");
        agents.json["spec"]["updateStrategy"].to_string()
    };
    let rolling = |surge: &str, unavailable: &str| {
        format!(
            r#"{{"rollingUpdate":{{"maxSurge":{surge},"maxUnavailable":{unavailable}}},"type":"RollingUpdate"}}"#
        )
    };
    for (update, surge, unavailable) in [
        ("{}", "1", "0"),
        ("{maxUnavailable: 1}", "0", "1"),
        ("{maxUnavailable: 10%}", "0", r#""10%""#),
        ("{maxUnavailable: 0}", "1", "0"),
        ("{maxSurge: 50%}", r#""50%""#, "0"),
        ("{maxSurge: 0}", "0", "1"),
        ("{maxSurge: 0, maxUnavailable: 2}", "0", "2"),
    ] {
        let values = format!("{{rollingUpdate: {update}}}");
        assert_eq!(strategy(&values), rolling(surge, unavailable), "{update}");
    }
    assert_eq!(strategy("{type: OnDelete}"), r#"{"type":"OnDelete"}"#);
}

#[test]
fn names_do_not_depend_on_the_release() {
    let ids = |release| {
        let template = Template {
            release,
            ..Template::default()
        };
        let rendered = template.values(&values("everything")).unwrap();
        rendered.objects.iter().map(Object::id).collect::<Vec<_>>()
    };
    assert_eq!(ids("transparent-proxy"), ids("other"));
}

#[test]
fn the_definition_of_destinations_is_the_generated_one_and_stays() {
    let rendered = rendered("default");
    let ours = rendered.get(
        "CustomResourceDefinition",
        "destinations.destination.connectivity.api.sap",
    );
    let file = fs::read_to_string(chart().join("files/destination-crd.yaml")).unwrap();
    let generated: Value = serde_saphyr::from_str(&file).unwrap();
    let generated = Object::new(generated);
    assert_eq!(
        ours.as_kubernetes_reads_it()["spec"],
        generated.as_kubernetes_reads_it()["spec"]
    );
    assert_eq!(ours.annotation("helm.sh/resource-policy"), Some("keep"));
}

/// As the chart of the Connectivity Proxy has it: below a key of its name, with a switch.
pub fn parent() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write(
        "Chart.yaml",
        "apiVersion: v2\nname: parent\nversion: 1.0.0\ndependencies:\n  \
         - {name: transparent-proxy, version: 0.1.0, condition: transparent-proxy.enabled}\n",
    );
    write(
        "values.yaml",
        "global: {registry: elsewhere.test}\nconfig: {other: true}\nother: 1\ntransparent-proxy: {enabled: false}\n",
    );
    fs::create_dir_all(folder.path().join("templates")).unwrap();
    fs::create_dir_all(folder.path().join("charts")).unwrap();
    symlink(chart(), folder.path().join("charts/transparent-proxy")).unwrap();
    folder
}

#[test]
fn as_a_subchart_it_is_the_same_and_takes_nothing_from_its_parent() {
    let parent = parent();
    let inside = Template {
        chart: parent.path().to_owned(),
        ..Template::default()
    };
    assert!(
        inside.values("").unwrap().objects.is_empty(),
        "it is switched off"
    );
    let values = "transparent-proxy: {enabled: true, config: {logging: {level: warn}}}";
    let inside = inside.values(values).unwrap();
    let alone = template("config: {logging: {level: warn}}").unwrap();
    assert_eq!(
        inside
            .text
            .replace("parent/charts/transparent-proxy/", "transparent-proxy/"),
        alone.text
    );
}

#[test]
fn as_a_subchart_it_still_checks_its_values() {
    let parent = parent();
    let inside = Template {
        chart: parent.path().to_owned(),
        ..Template::default()
    };
    for (values, complaint) in [
        (
            "config: {tenantMode: shared}",
            "config.tenantMode is not supported yet",
        ),
        ("config: {tenantmode: shared}", "'tenantmode' not allowed"),
    ] {
        let values = format!("transparent-proxy: {{enabled: true, {values}}}");
        let error = inside.values(&values).err().expect("refused");
        assert!(error.contains(complaint), "{error}");
    }
}

#[test]
fn secrets_are_read_here_and_in_the_named_namespaces_only() {
    // In `pki` it is the one with the authorities.
    let rendered = rendered("everything");
    let namespaces: Vec<_> = rendered
        .of_kind("Role")
        .filter(|role| role.json["rules"][0]["resources"][0] == "secrets")
        .map(|role| role.namespace().unwrap())
        .collect();
    assert_eq!(namespaces, ["pki", NAMESPACE, "billing", "shop"]);
}
