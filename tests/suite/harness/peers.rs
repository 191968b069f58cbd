//! Programs of other people, as `cargo xtask test` has made them available.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use super::binary;

/// Names a JSON file: program -> where it is.
const VARIABLE: &str = "TRANSPARENT_PROXY_PEERS";

/// Path of a program.
pub fn path(name: &str) -> PathBuf {
    static LIST: OnceLock<Value> = OnceLock::new();
    let list = LIST.get_or_init(|| {
        let file = std::env::var_os(VARIABLE).map_or_else(
            || binary::tests_folder().with_file_name("target").join("peers.json"),
            PathBuf::from,
        );
        let text = std::fs::read_to_string(&file)
            .unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask peers` first", file.display()));
        serde_json::from_str(&text).expect("the list of peers is JSON")
    });
    list[name]["program"]
        .as_str()
        .unwrap_or_else(|| panic!("`cargo xtask peers {name}` says why it is missing"))
        .into()
}

/// The Go client, built once into a static binary.
pub fn go_client() -> PathBuf {
    static CLIENT: OnceLock<PathBuf> = OnceLock::new();
    CLIENT
        .get_or_init(|| {
            let client = binary::log_folder().with_file_name("go-client");
            let status = Command::new(path("go"))
                .args(["build", "-o"])
                .arg(&client)
                .arg(binary::tests_folder().join("clients/client.go"))
                .env("CGO_ENABLED", "0")
                .status();
            assert!(status.expect("go starts").success(), "the Go client is built");
            client
        })
        .clone()
}
