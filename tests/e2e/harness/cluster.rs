//! The cluster, by the scripts in `tests/cluster` and by kubectl and helm.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use super::node::Node;
use super::outside::Outside;

pub struct Cluster {
    scripts: PathBuf,
    pub state: PathBuf,
}

impl Cluster {
    pub fn from_environment() -> Option<Self> {
        let path = |name| std::env::var_os(name).map(PathBuf::from);
        Some(Self {
            scripts: path("CLUSTER_SCRIPTS")?,
            state: path("CLUSTER_STATE")?,
        })
    }

    pub fn node(&self, name: &str) -> Node<'_> {
        Node::new(self, name)
    }

    pub fn nodes(&self) -> [Node<'_>; 2] {
        [self.node("node1"), self.node("node2")]
    }

    pub fn outside(&self) -> Outside {
        Outside::of(&self.state)
    }

    /// A program on a node.
    pub fn command<S: AsRef<OsStr>>(&self, node: &str, command: &[S]) -> Command {
        let mut enter = Command::new(self.scripts.join("enter"));
        enter.arg(node).args(command).stdin(Stdio::null());
        enter
    }

    /// What kubectl prints; it must succeed.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.try_kubectl(arguments);
        text_of(&format!("kubectl {}", arguments.join(" ")), &output)
    }

    pub fn try_kubectl(&self, arguments: &[&str]) -> Output {
        let command = [&["kubectl"], arguments].concat();
        self.command("node1", &command)
            .output()
            .expect("the script starts")
    }

    /// Runs what somebody would type into a shell, in the repository; gives whether it succeeded, and all that was said.
    pub fn shell(&self, line: &str) -> (bool, String) {
        let output = self
            .command("node1", &["sh", "-c", line])
            .current_dir(repository())
            .output()
            .expect("the script starts");
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }

    /// What helm prints; it must succeed.
    pub fn helm(&self, arguments: &[&str]) -> String {
        let output = self.try_helm(arguments);
        text_of(&format!("helm {}", arguments.join(" ")), &output)
    }

    pub fn try_helm(&self, arguments: &[&str]) -> Output {
        let command = [&["helm"], arguments].concat();
        self.command("node1", &command)
            .output()
            .expect("the script starts")
    }

    /// Objects, or a list of such.
    pub fn apply(&self, objects: &[Value]) {
        self.feed("apply", objects);
    }

    /// The same for new ones, with half the requests.
    pub fn create(&self, objects: &[Value]) {
        self.feed("create", objects);
    }

    fn feed(&self, verb: &str, objects: &[Value]) {
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        let command = ["kubectl", verb, "--filename", "-"];
        let mut kubectl = self
            .command("node1", &command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the script starts");
        let mut input = kubectl.stdin.take().expect("a pipe");
        input
            .write_all(list.to_string().as_bytes())
            .expect("kubectl reads it");
        drop(input);
        let output = kubectl.wait_with_output().expect("kubectl ends");
        text_of(&format!("kubectl {verb}"), &output);
    }

    /// A file of the repository.
    pub fn apply_file(&self, file: &str) {
        let file = repository().join(file);
        self.kubectl(&["apply", "--filename", &file.display().to_string()]);
    }

    /// An object as JSON: `get(&["service", "shop", "--namespace", "shop"])`.
    pub fn get(&self, what: &[&str]) -> Value {
        let arguments = [&["get", "--output", "json"], what].concat();
        serde_json::from_str(&self.kubectl(&arguments)).expect("kubectl writes JSON")
    }

    /// What helps to understand a failure.
    pub fn show_state(&self) {
        let wide = [
            "get",
            "pods,services,destinations",
            "--all-namespaces",
            "--output",
            "wide",
        ];
        for arguments in [
            &wide[..],
            &["get", "events", "--all-namespaces", "--sort-by", ".lastTimestamp"],
        ] {
            let output = self.try_kubectl(arguments);
            let text = String::from_utf8_lossy(&output.stdout);
            let lines: Vec<&str> = text.lines().collect();
            let last = &lines[lines.len().saturating_sub(40)..];
            println!("---- kubectl {}\n{}", arguments.join(" "), last.join("\n"));
        }
    }
}

/// Standard output of what must have succeeded.
pub fn text_of(what: &str, output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{what}: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text.into_owned()
}

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this package is in the repository")
}
