use std::fs;
use std::path::Path;

use clap::CommandFactory;

use super::*;
use crate::config;

/// A folder with what the command lines of the tests name.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::create_dir_all(path.join("destinations")).unwrap();
    fs::write(path.join("one.yaml"), "").unwrap();
    fs::write(path.join("no.pem"), "hello").unwrap();
    fs::write(
        path.join("broken.pem"),
        "-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    fs::create_dir(path.join("cgroup")).unwrap();
    fs::write(path.join("cgroup/cgroup.controllers"), "").unwrap();
    fs::create_dir(path.join("no-cgroup")).unwrap();
    folder
}

fn parse(line: &[&str], folder: &Path) -> Result<config::Run, String> {
    let line = ["transparent-proxy"].iter().chain(line);
    match Cli::try_parse_from(line).map_err(|error| error.to_string())?.role {
        Role::Run(run) => run.validate(folder).map_err(|error| format!("error: {error}\n")),
        other => Err(format!("{other:?}")),
    }
}

fn run(line: &[&str]) -> config::Run {
    let folder = folder();
    let line: Vec<&str> = std::iter::once("run").chain(line.iter().copied()).collect();
    parse(&line, folder.path()).unwrap()
}

/// Words are split at blanks; `''` is an empty one.
fn message(line: &str) -> String {
    let folder = folder();
    let words: Vec<&str> = line
        .split(' ')
        .map(|word| if word == "''" { "" } else { word })
        .collect();
    let text = parse(&words, folder.path()).expect_err(line);
    text.replace(folder.path().to_str().unwrap(), "[folder]")
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn a_command_gets_the_defaults() {
    let config = run(&["--", "curl", "--user", "x", "http://my-dest/"]);
    let config::Scope::Command(command) = &config.scope else {
        panic!("{config:?}")
    };
    assert_eq!(command.program, "curl");
    assert_eq!(command.arguments, ["--user", "x", "http://my-dest/"]);
    assert_eq!(command.user, None);
    assert_eq!(config.virtual_ips.to_string(), "127.66.0.0/16");
    assert_eq!(config.listen.to_string(), "127.0.0.1");
    assert!(config.destinations[0].ends_with("destinations"));
    assert_eq!(config.logging.level, tracing::Level::WARN);
    assert_eq!(config.retry, None);
    assert_eq!(config.drain_timeout.as_secs(), 30);
}

#[test]
fn without_command_and_cgroup_the_whole_machine_is_served() {
    let config = run(&[]);
    assert_eq!(config.scope, config::Scope::Machine);
    assert_eq!(config.logging.level, tracing::Level::INFO);
}

#[test]
fn every_option_is_taken_over() {
    let config = run(&[
        "--destinations",
        "one.yaml",
        "--destinations",
        "destinations",
        "--listen",
        "10.0.0.1",
        "--virtual-ips",
        "10.200.0.0/16",
        "--cgroup",
        "cgroup",
        "--hosts-file",
        "hosts",
        "--metrics",
        "[::1]:9090",
        "--log-level",
        "debug",
        "--log-format",
        "json",
        "--max-retries",
        "2",
        "--retry-status",
        "429,503",
        "--drain-timeout",
        "0",
    ]);
    assert_eq!(config.destinations.len(), 2);
    assert!(matches!(config.scope, config::Scope::Cgroup(path) if path.ends_with("cgroup")));
    assert_eq!(config.metrics.unwrap().to_string(), "[::1]:9090");
    assert_eq!(config.logging.format, logging::Format::Json);
    let retry = config.retry.unwrap();
    assert_eq!((retry.max_retries, retry.status_codes.len()), (2, 2));
    assert!(config.drain_timeout.is_zero());
}

#[test]
fn ipv6_virtual_ips_work_where_everybody_says_so() {
    let config = run(&[
        "--cgroup",
        "cgroup",
        "--listen",
        "fd00::1",
        "--virtual-ips",
        "fd01::/64",
    ]);
    assert_eq!(config.virtual_ips.to_string(), "fd01::/64");
}

#[test]
fn without_destinations_a_sentence_says_how_to_give_some() {
    let empty = tempfile::tempdir().unwrap();
    let message = parse(&["run", "--", "true"], empty.path()).unwrap_err();
    insta::assert_snapshot!(message, @"error: there are no destinations: create the folder ./destinations, or say where they are with --destinations PATH");
}

const WRONG: [&str; 46] = [
    "rum",
    "check",
    "doctor --format yaml",
    "run curl http://my-dest/",
    "run --destination x",
    "run -- ''",
    "run --destinations missing -- true",
    "run --destinations one.yaml --destinations ./one.yaml --destinations one.yaml -- true",
    "run --destinations",
    "run --listen localhost -- true",
    "run --listen 127.0.0.1:8080 -- true",
    "run --listen 0.0.0.0 -- true",
    "run --listen :: -- true",
    "run --listen 224.0.0.1 -- true",
    "run --listen 255.255.255.255 -- true",
    "run --virtual-ips 127.66.0.0 -- true",
    "run --virtual-ips nonsense -- true",
    "run --virtual-ips 127.66.0.0/33 -- true",
    "run --virtual-ips 127.66.1.2/16 -- true",
    "run --virtual-ips 127.66.0.0/31 -- true",
    "run --virtual-ips 127.0.0.0/8 -- true",
    "run --virtual-ips 127.0.0.48/28 -- true",
    "run --virtual-ips 127.0.1.0/24 -- true",
    "run --virtual-ips 10.200.0.0/16 -- true",
    "run --virtual-ips 0.0.0.0/0 --cgroup cgroup --listen 10.0.0.1",
    "run --virtual-ips 224.1.0.0/16 --cgroup cgroup --listen 10.0.0.1",
    "run --virtual-ips 10.200.0.0/16 --cgroup cgroup",
    "run --virtual-ips 10.0.0.0/16 --cgroup cgroup --listen 10.0.0.1",
    "run --virtual-ips fd01::/64 -- true",
    "run --virtual-ips fd01::/64 --cgroup cgroup --listen 10.0.0.1",
    "run --listen ::1 -- true",
    "run --cgroup cgroup -- true",
    "run --cgroup missing",
    "run --cgroup no-cgroup",
    "run --hosts-file missing/hosts",
    "run --hosts-file destinations",
    "run --user root",
    "run --user no-such-user -- true",
    "run --metrics 127.0.0.1 -- true",
    "run --metrics 9090 -- true",
    "run --log-level loud -- true",
    "run --log-format xml -- true",
    "run --max-retries 11 -- true",
    "run --retry-status 503 -- true",
    "run --max-retries 1 --retry-status 200 -- true",
    "run --drain-timeout 5s -- true",
];

#[test]
fn wrong_command_lines_get_exact_messages() {
    let all: Vec<String> = WRONG
        .into_iter()
        .map(|line| format!("$ transparent-proxy {line}\n{}", message(line).trim_end()))
        .collect();
    insta::assert_snapshot!(all.join("\n\n"));
}

#[test]
fn files_of_certificate_authorities_have_to_contain_some() {
    let messages: Vec<String> = ["missing.pem", "no.pem", "broken.pem"]
        .into_iter()
        .map(|file| message(&format!("run --additional-ca {file} -- true")))
        .collect();
    insta::assert_snapshot!(messages.concat());
}

#[test]
fn the_help_of_run_has_units_and_examples() {
    let help = Cli::command()
        .find_subcommand_mut("run")
        .unwrap()
        .render_long_help()
        .to_string();
    insta::assert_snapshot!(help);
}
