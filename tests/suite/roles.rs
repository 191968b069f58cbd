//! What all roles on Kubernetes have in common: log, level at run time, probes, metrics.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::{Value, json};
use transparent_proxy::telemetry::registry::{Exposition, strict};

use crate::harness::role::{Role, Running};
use crate::harness::tcp;

/// Any role will do, and this one needs the least.
fn role(name: &str, settings: &Value) -> Role {
    Role::new("healthcheck", name, settings).option("--listen", tcp::nobody().to_string())
}

fn level_changed_to(level: &str) -> impl Fn(&Value) -> bool {
    move |line| line["msg"] == "the log level was changed" && line["now"] == level
}

fn change_log_level(running: &Running, arguments: &[&str]) -> Output {
    let command = running.folder().join("change-log-level");
    Command::new(command)
        .args(arguments)
        .output()
        .expect("a link to the program")
}

fn file(running: &Running) -> PathBuf {
    running.folder().join("logger-config.yaml")
}

#[test]
fn logs_are_objects_on_standard_output() {
    let mut running = role("roles-log", &json!({})).start();
    let first = running.line("something is logged", |_| true);
    assert_eq!(
        (&first["level"], &first["component"]),
        (&json!("info"), &json!("healthcheck"))
    );
    assert_eq!(first["msg"], "starting");
    assert!(
        first["time"].as_str().is_some_and(|time| time.ends_with('Z')),
        "{first}"
    );
    assert_eq!(running.stop().code(), Some(0));
    let log = running.log();
    assert!(log.iter().any(|line| line["msg"] == "stopping"), "{log:?}");
}

/// An upgrade changes the settings in place, before the pods are replaced.
#[test]
fn settings_that_only_a_newer_version_knows_keep_nobody_from_working() {
    let settings = json!({"logging": {"level": "info", "colour": "red"}, "pace": 1});
    let mut running = role("roles-newer-settings", &settings).start();
    let line = running.line("they are named", |line| line["level"] == "warn");
    assert_eq!(line["keys"], "logging.colour, pace");
    assert_eq!(running.stop().code(), Some(0));
}

#[test]
fn logs_are_text_where_that_is_wanted() {
    let settings = json!({"logging": {"format": "console", "level": "DEBUG"}});
    let mut running = role("roles-text", &settings).start();
    assert_eq!(running.stop().code(), Some(0));
    let text = fs::read_to_string(crate::harness::binary::log_folder().join("roles-text.log")).unwrap();
    assert!(
        text.lines()
            .any(|line| line.contains("  INFO healthcheck starting version=")),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn the_command_in_the_pod_changes_the_level() {
    let running = role("roles-command", &json!({})).start();
    let output = change_log_level(&running, &["DEBUG"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "Successfully changed log levels to debug\n"
    );
    let line = running.line("the level is debug", level_changed_to("debug"));
    assert_eq!(line["before"], "info");
    assert_eq!(
        fs::read_to_string(file(&running)).unwrap(),
        "log:\n  level: debug\n"
    );
}

#[test]
fn what_is_no_level_is_refused_with_those_that_are() {
    let running = role("roles-refused", &json!({})).start();
    for arguments in [&["loud"][..], &[], &["debug", "info"]] {
        let output = change_log_level(&running, arguments);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            said.contains("trace, debug, info, warn, error and fatal"),
            "{said}"
        );
    }
    assert_eq!(
        fs::read_to_string(file(&running)).unwrap(),
        "log:\n  level: info\n"
    );
}

/// As an ephemeral container of the pod does it: through the root of the process.
#[test]
fn writing_the_file_changes_the_level() {
    let running = role("roles-file", &json!({"logging": {"level": "warn"}})).start();
    let path = file(&running);
    assert_eq!(fs::read_to_string(&path).unwrap(), "log:\n  level: warn\n");
    let by_root = PathBuf::from(format!("/proc/{}/root{}", running.id(), path.display()));
    fs::write(by_root, "log: {level: debug}\n").unwrap();
    running.line("the level is debug", level_changed_to("debug"));
    let beside = path.with_file_name("new");
    fs::write(&beside, "# quiet\nlog:\n    level: INFO\n").unwrap();
    fs::rename(beside, &path).unwrap();
    running.line("the level is info", level_changed_to("info"));
    fs::write(&path, "log:\n  level: loud\n").unwrap();
    let line = running.line("the level stays", |line| {
        line["msg"] == "the log level stays info"
    });
    assert_eq!(line["level"], "warn");
    assert!(
        line["err"].as_str().unwrap().contains("the log levels are"),
        "{line}"
    );
}

#[test]
fn a_start_that_fails_ends_with_a_line_of_level_fatal() {
    let taken = tcp::saying("taken");
    let mut running = role("roles-fatal", &json!({"logging": {"level": "fatal"}}))
        .option("--probes", taken.to_string())
        .spawn();
    assert_eq!(running.ended().code(), Some(1));
    let log = running.log();
    assert_eq!(log.len(), 1, "{log:?}");
    assert_eq!(log[0]["level"], "fatal");
    let error = log[0]["err"].as_str().unwrap();
    assert!(error.contains(&format!("{taken} cannot be used")), "{error}");
}

#[test]
fn a_pod_without_a_folder_for_the_level_works_and_says_so() {
    let running = role("roles-no-folder", &json!({}))
        .option("--logging", "/proc/nowhere")
        .start();
    running.line("a warning", |line| {
        line["level"] == "warn" && line["msg"] == "the log level cannot be changed while this runs"
    });
}

#[test]
fn metrics_are_read_by_a_strict_reader_in_both_formats() {
    let running = role("roles-metrics", &json!({"metrics": {"enabled": true}})).start();
    for (accept, exposition) in [
        (
            "application/openmetrics-text;version=1.0.0",
            Exposition::OpenMetrics,
        ),
        ("text/plain;version=0.0.4", Exposition::Prometheus),
    ] {
        let request =
            format!("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept: {accept}\r\n\r\n");
        let answer = tcp::exchange(running.metrics(), &request);
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(
            head.contains(&format!("content-type: {}", exposition.content_type())),
            "{head}"
        );
        let families = strict::parse(body, exposition).unwrap_or_else(|error| panic!("{error}\n{body}"));
        for name in ["tp_cpu_percent", "tp_memory_bytes"] {
            let family = &families[name];
            let labels = r#"{otel_scope_name="system-metrics",otel_scope_version=""}"#;
            assert!(
                family.samples.contains_key(&format!("{name}{labels}")),
                "{family:?}"
            );
        }
        assert!(families.contains_key("tp_build"), "{families:?}");
    }
}

#[test]
fn neither_server_changes_anything() {
    let running = role("roles-read-only", &json!({"metrics": {"enabled": true}})).start();
    for address in [running.probes(), running.metrics()] {
        let get = tcp::get(address, "/log-level");
        assert!(get.starts_with("HTTP/1.1 404 "), "{get}");
        let request = "PUT /log-level HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 5\r\n\r\ndebug";
        let put = tcp::exchange(address, request);
        assert!(put.starts_with("HTTP/1.1 405 "), "{put}");
    }
    assert!(tcp::get(running.probes(), "/metrics").starts_with("HTTP/1.1 404 "));
    assert!(tcp::get(running.metrics(), "/status").starts_with("HTTP/1.1 404 "));
    assert!(tcp::get(running.probes(), "/healthz").ends_with("ok\n"));
}
