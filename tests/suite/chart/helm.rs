//! The real helm. `helm template` needs no cluster; the version of one is told to it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::chart;
use super::objects::Object;
use crate::harness::peers;

/// The oldest that the chart takes, and one that knows every field that it may use.
pub const OLDEST: &str = "1.25.0";
pub const NEWEST: &str = "1.37.0";

/// Where releases go in tests without a cluster.
pub const NAMESPACE: &str = "proxy";

/// What a chart becomes.
pub struct Rendered {
    pub text: String,
    pub objects: Vec<Object>,
}

impl Rendered {
    fn new(text: String) -> Self {
        let documents: Vec<Option<Value>> = serde_saphyr::from_multiple(&text).expect("helm writes YAML");
        let objects = documents.into_iter().flatten().map(Object::new).collect();
        Self { text, objects }
    }

    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Object> {
        self.objects.iter().filter(move |object| object.kind() == kind)
    }

    pub fn find(&self, kind: &str, name: &str) -> Option<&Object> {
        let mut objects = self.objects.iter();
        objects.find(|object| object.kind() == kind && object.name() == name)
    }

    /// Fails if it is not there.
    pub fn get(&self, kind: &str, name: &str) -> &Object {
        self.find(kind, name)
            .unwrap_or_else(|| panic!("no {kind} {name}"))
    }
}

/// `helm template` with these values (YAML), or what it complains about.
pub fn template(values: &str) -> Result<Rendered, String> {
    Template::default().values(values)
}

/// `helm template` with options.
pub struct Template {
    pub chart: PathBuf,
    pub kubernetes: &'static str,
    pub release: &'static str,
    pub namespace: &'static str,
}

impl Default for Template {
    fn default() -> Self {
        Self {
            chart: chart(),
            kubernetes: NEWEST,
            release: "transparent-proxy",
            namespace: NAMESPACE,
        }
    }
}

impl Template {
    pub fn values(&self, values: &str) -> Result<Rendered, String> {
        let mut helm = helm();
        helm.args(["template", self.release]).arg(&self.chart).args([
            "--namespace",
            self.namespace,
            "--kube-version",
            self.kubernetes,
        ]);
        with_values(helm, values).map(Rendered::new)
    }
}

/// Complaints are the error.
pub fn lint(values: &str) -> Result<String, String> {
    let mut helm = helm();
    helm.args(["lint", "--strict", "--kube-version", NEWEST])
        .arg(chart());
    with_values(helm, values)
}

/// Runs helm with values at its standard input.
pub fn with_values(mut helm: Command, values: &str) -> Result<String, String> {
    let mut child = helm
        .args(["--values", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("helm starts");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(values.as_bytes()).expect("helm reads the values");
    drop(input);
    outcome(&child.wait_with_output().expect("helm ends"))
}

pub fn run(mut helm: Command) -> Result<String, String> {
    outcome(&helm.stdin(Stdio::null()).output().expect("helm starts"))
}

fn outcome(output: &std::process::Output) -> Result<String, String> {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(said)
    } else {
        Err(said + &String::from_utf8_lossy(&output.stderr))
    }
}

/// Without anything of the user's: no plugins, no settings, no cluster.
pub fn helm() -> Command {
    let program = std::env::var_os("HELM").map_or_else(|| peers::path("helm"), PathBuf::from);
    let mut helm = Command::new(program);
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("helm");
    helm.env_clear()
        .env("HOME", &home)
        .env("KUBECONFIG", home.join("none"));
    helm
}
