//! What operators look at.

use std::time::Duration;

use serde_json::Value;

use crate::harness::installation::{Installation, ProxyPod};
use crate::harness::page::commands;
use crate::harness::wait::{eventually, until};
use crate::harness::world::{AUTHORIZATION, PASSWORD, World};

const SOON: Duration = Duration::from_secs(20);

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

pub fn status_and_helm_test_say_that_all_is_well(world: &World) {
    let installation = world.installation();
    let [pod, _] = world.strangers();
    let ask = |path: &str| {
        json(
            &pod.curl(&format!(
                "http://sap-transp-proxy-int-healthcheck.transparent-proxy{path}"
            ))
            .body,
        )
    };
    eventually(SOON, "all components are well", || {
        let status = ask("/status");
        if status["Status"] == "ok" {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    let resources = ask("/destinationCRs").to_string();
    assert!(
        resources.contains("catalog") && resources.contains("echo"),
        "{resources}"
    );
    for agent in installation.agents() {
        let status = json(&installation.ask(&agent, 8081, "/status"));
        assert_eq!(status["phase"], "ready", "{status}");
        assert_eq!(status["hook"]["state"], "working", "{status}");
    }
    installation.cluster.helm(&[
        "test",
        &installation.namespace,
        "--namespace",
        &installation.namespace,
    ]);
}

pub fn metrics_count_requests(world: &World) {
    let installation = world.installation();
    let [pod, _] = world.shop();
    let agent = installation.agent("node1");
    let requests = || metric(&installation, &agent, 9494, "tp_received_requests_total");
    let before = requests();
    assert_eq!(pod.curl("http://catalog/").status, 200);
    until(SOON, "the request is counted", || requests() > before);

    let connections = || metric(&installation, &agent, 9495, "tp_tcp_connections_total");
    let before = connections();
    assert_eq!(pod.echo("echo", 7000), "hello\n");
    until(SOON, "the connection is counted", || connections() > before);

    for component in ["manager", "healthcheck"] {
        for pod in installation.pods(component) {
            assert!(
                installation
                    .ask(&pod, 9494, "/metrics")
                    .contains("tp_memory_bytes"),
                "{component}"
            );
        }
    }
}

/// `explain`, `connections` and `doctor`, as the troubleshooting page shows them.
pub fn commands_on_a_node_say_who_connects_who_may_not_and_what_is_missing(world: &World) {
    let installation = world.installation();
    let agent = installation.agent("node1");
    let say = |command: &[&str]| {
        let exec = ["exec", &agent.name, "--namespace", &installation.namespace, "--"];
        let program = ["transparent-proxy"];
        let format = ["--format", "json"];
        json(
            &world
                .cluster
                .kubectl(&[&exec[..], &program, command, &format].concat()),
        )
    };
    let [pod, _] = world.shop();
    let [stranger, _] = world.strangers();
    assert_eq!(pod.curl("http://catalog/").status, 200);
    assert_eq!(stranger.curl("http://catalog.shop/").status, 0);

    let report = &say(&["explain", "shop/catalog"])["report"];
    let service = &report["services"][0];
    assert_eq!(service["listener"], "open", "{report}");
    let redirected_to = &service["kernel"][0]["redirectedTo"];
    assert_eq!(
        redirected_to,
        &format!("{}:{}", agent.address, service["targetPort"]),
        "{report}"
    );
    assert_eq!(report["destination"]["state"], "found", "{report}");
    assert!(!report.to_string().contains(PASSWORD), "{report}");
    let callers = report["callers"].as_array().expect("a list");
    let named = |caller: &Value| caller["namespace"] == pod.namespace && caller["pod"] == pod.name;
    assert!(callers.iter().any(named), "{report}");
    eventually(SOON, "the stranger is named", || {
        let report = &say(&["explain", "shop/catalog"])["report"];
        let refusals = report["refusals"].as_array().expect("a list");
        let who = format!("{}/{}", stranger.namespace, stranger.name);
        let named = refusals
            .iter()
            .any(|one| one["who"] == who && one["atConnect"] == true);
        named.then_some(()).ok_or_else(|| report.to_string())
    });

    let talking = pod.holds("echo", 7000);
    eventually(SOON, "the open connection is listed", || {
        let list = say(&["connections"]);
        let source = format!("{}:", pod.address());
        let ours = |one: &Value| {
            one["cr"] == "shop/echo"
                && one["source"]
                    .as_str()
                    .is_some_and(|text| text.starts_with(&source))
        };
        let listed = list.as_array().is_some_and(|list| list.iter().any(ours));
        listed.then_some(()).ok_or_else(|| list.to_string())
    });
    drop(talking);

    let findings = say(&["doctor"]);
    assert!(!findings.to_string().contains("\"failed\""), "{findings}");
}

/// The sum over all labels.
fn metric(installation: &Installation<'_>, pod: &ProxyPod, port: u16, name: &str) -> f64 {
    let text = installation.ask(pod, port, "/metrics");
    let lines = text
        .lines()
        .filter(|line| line.starts_with(&format!("{name} ")) || line.starts_with(&format!("{name}{{")));
    let values: Vec<f64> = lines
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect();
    assert!(!values.is_empty(), "{name} is missing:\n{text}");
    values.iter().sum()
}

/// As the page of operations says it first.
fn change_level(installation: &Installation<'_>, pod: &ProxyPod, level: &str) {
    let place = ["exec", "--namespace", &installation.namespace, &pod.name];
    let container = ["--container", "sap-transp-proxy", "--"];
    let change = ["/etc/logging/change-log-level", level];
    installation
        .cluster
        .kubectl(&[&place[..], &container, &change].concat());
}

pub fn logs_are_json_without_secrets_and_their_level_can_be_changed(world: &World) {
    let installation = world.installation();
    let agent = installation.agent("node1");
    let logs = || installation.kubectl(&["logs", &agent.name]);
    let debug_lines = || logs().matches(r#""debug""#).count();
    change_level(&installation, &agent, "debug");
    let before = debug_lines();
    let [pod, _] = world.shop();
    until(SOON, "there are lines of level debug", || {
        assert_eq!(pod.curl("http://catalog/").status, 200);
        debug_lines() > before
    });
    change_level(&installation, &agent, "info");
    let text = logs();
    for line in text.lines() {
        assert!(json(line).is_object(), "{line}");
    }
    let encoded = AUTHORIZATION.trim_start_matches("Basic ");
    for secret in [PASSWORD, encoded] {
        assert!(!text.contains(secret), "the log has a secret");
    }
}

/// The file that is written in a running pod, as its container has it.
fn log_level(installation: &Installation<'_>, pod: &ProxyPod) -> String {
    let process = installation.processes(pod)[0];
    let file = format!("/proc/{process}/root/etc/logging/logger-config.yaml");
    std::fs::read_to_string(&file).unwrap_or_else(|error| format!("{file}: {error}"))
}

/// The folder outlives the container; the level shall not.
pub fn a_restarted_container_has_the_level_of_the_values(world: &World) {
    let installation = world.installation();
    installation.wait_until_agents_are_ready();
    let agent = installation.agent("node1");
    change_level(&installation, &agent, "debug");
    assert!(log_level(&installation, &agent).contains("debug"));
    installation.kill(&agent);
    until(SOON, "the agent restarts", || {
        installation.agent("node1").restarts > agent.restarts
    });
    installation.wait_until_agents_are_ready();
    let level = log_level(&installation, &agent);
    assert!(level.contains("info") && !level.contains("debug"), "{level}");
}

/// `docs/kubernetes/operations.md`, for pods in which one may run nothing.
pub fn a_debug_container_changes_the_level_as_its_page_says(world: &World) {
    let installation = world.installation();
    let agent = installation.agent("node2");
    let mut commands = commands("docs/kubernetes/operations.md").into_iter();
    let command = commands.find(|command| command.starts_with("kubectl debug "));
    let command = command
        .expect("the page says it")
        .replace(" POD ", &format!(" {} ", agent.name));
    let (succeeded, said) = world.cluster.shell(&command);
    assert!(succeeded, "{command}: {said}");
    let [_, pod] = world.shop();
    let debug_lines = || {
        let logs = ["logs", &agent.name, "--container", "sap-transp-proxy"];
        installation.kubectl(&logs).matches(r#""debug""#).count()
    };
    until(SOON, "there are lines of level debug", || {
        assert_eq!(pod.curl("http://catalog/").status, 200);
        debug_lines() > 0
    });
    change_level(&installation, &agent, "info");
}
