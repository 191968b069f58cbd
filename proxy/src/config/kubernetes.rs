//! Settings of the roles on Kubernetes: the file that the chart writes, and what the pod knows of itself.
//!
//! The file is JSON with the keys below. It is one file that an upgrade changes in place, so a
//! container that starts again may find that of another version: keys that it does not know are
//! ignored, and told. That the chart writes none is tested with it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::api::destination::Scope;
use crate::api::tenant::TenantMode;
use crate::telemetry::logging;

/// One file for all roles; each takes what it needs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct File {
    pub tenant_mode: TenantMode,
    pub managed_namespaces_mode: ManagedNamespacesMode,
    /// Scope of Destination CRs that say none.
    pub default_scope: Scope,
    /// How often destinations are checked, in minutes (1 to 1440).
    pub execution_interval_minutes: ExecutionInterval,
    /// Name of the instance for Destination CRs that name none.
    pub default_instance_name: Option<String>,
    /// The instance named `secrets`.
    pub secrets: Secrets,
    pub http: Http,
    pub logging: Logging,
    pub metrics: Metrics,
    pub ebpf: Ebpf,
    pub target_ports: TargetPorts,
    pub limits: Limits,
    /// How long open requests and connections may take to finish at the end, in seconds.
    pub drain_seconds: DrainSeconds,
    /// Domain of the cluster's names; found in the resolver's configuration if absent.
    pub cluster_domain: Option<String>,
    /// Where certificate authorities are that are trusted for technical calls too.
    pub additional_cas: Option<AdditionalCas>,
}

/// A key of a Secret: certificates in PEM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AdditionalCas {
    pub namespace: String,
    pub secret: String,
    pub key: String,
}

impl fmt::Display for AdditionalCas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the key {} of the Secret {}/{}",
            self.key, self.namespace, self.secret
        )
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ManagedNamespacesMode {
    #[default]
    All,
    LabelSelector,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct ExecutionInterval(u32);

impl ExecutionInterval {
    pub fn duration(self) -> Duration {
        Duration::from_secs(u64::from(self.0) * 60)
    }
}

impl Default for ExecutionInterval {
    fn default() -> Self {
        Self(3)
    }
}

impl TryFrom<u32> for ExecutionInterval {
    type Error = String;

    fn try_from(minutes: u32) -> Result<Self, String> {
        if (1..=1440).contains(&minutes) {
            Ok(Self(minutes))
        } else {
            Err(format!(
                "executionIntervalMinutes is {minutes}; it must be 1 to 1440"
            ))
        }
    }
}

impl From<ExecutionInterval> for u32 {
    fn from(interval: ExecutionInterval) -> Self {
        interval.0
    }
}

/// Destinations from Kubernetes Secrets.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Secrets {
    /// Besides the installation namespace.
    pub namespaces: Vec<String>,
}

impl Secrets {
    /// All namespaces whose Secrets may be destinations, each once.
    pub fn namespaces_with(&self, installation: &str) -> BTreeSet<String> {
        let named = self.namespaces.iter().map(String::as_str);
        named.chain([installation]).map(str::to_owned).collect()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Http {
    pub retry: Retry,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Retry {
    pub max_retries: u8,
    pub status_codes: Vec<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Logging {
    pub level: logging::Level,
    pub format: logging::Format,
    /// One line per HTTP request.
    pub access: bool,
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            level: logging::Level::Info,
            format: logging::Format::Json,
            access: false,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metrics {
    pub enabled: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Ebpf {
    pub enabled: bool,
    /// Where the node's cgroup v2 tree is mounted in the agent's container.
    pub cgroup_root: PathBuf,
}

impl Default for Ebpf {
    fn default() -> Self {
        Self {
            enabled: true,
            cgroup_root: "/host/cgroup".into(),
        }
    }
}

/// Out of which every destination gets a port of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TargetPorts(RangeInclusive<u16>);

impl TargetPorts {
    pub fn range(&self) -> RangeInclusive<u16> {
        self.0.clone()
    }
}

impl Default for TargetPorts {
    fn default() -> Self {
        Self(10_000..=29_999)
    }
}

impl TryFrom<String> for TargetPorts {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let invalid = || {
            format!("targetPorts is {text:?}; it must be two ports from 1024 to 65535, like \"10000-29999\"")
        };
        let (first, last) = text.split_once('-').ok_or_else(invalid)?;
        let parse = |port: &str| port.trim().parse::<u16>().ok().filter(|port| *port >= 1024);
        match (parse(first), parse(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self(first..=last)),
            _ => Err(invalid()),
        }
    }
}

impl From<TargetPorts> for String {
    fn from(ports: TargetPorts) -> Self {
        format!("{}-{}", ports.0.start(), ports.0.end())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// Open connections of one source address.
    pub connections_per_pod: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_per_pod: 4096,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DrainSeconds(u16);

impl DrainSeconds {
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.0.into())
    }
}

impl Default for DrainSeconds {
    fn default() -> Self {
        Self(50)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{} cannot be read", .path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is not valid", .path.display())]
    Parse {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    pub settings: File,
    /// Paths of the keys that are not known, as in `logging.colour`.
    pub unknown: Vec<String>,
}

impl Read {
    pub fn file(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::text(&text).map_err(|source| Error::Parse {
            path: path.to_owned(),
            source,
        })
    }

    pub fn text(text: &str) -> serde_json::Result<Self> {
        let mut json = serde_json::Deserializer::from_str(text);
        let mut unknown = Vec::new();
        let settings = serde_ignored::deserialize(&mut json, |path| {
            // What may be absent is a step of its own there.
            unknown.push(path.to_string().replace(".?", ""));
        })?;
        json.end()?;
        Ok(Self { settings, unknown })
    }
}

/// What a pod knows of itself, by the downward API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    pub name: String,
    /// The installation namespace.
    pub namespace: String,
    pub node: String,
    /// One or two, of different families.
    pub ips: Vec<IpAddr>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_means_the_defaults() {
        assert_eq!(serde_json::from_str::<File>("{}").unwrap(), File::default());
    }

    #[test]
    fn what_is_written_is_read_back() {
        let text = serde_json::to_string(&File::default()).unwrap();
        assert_eq!(serde_json::from_str::<File>(&text).unwrap(), File::default());
    }

    #[test]
    fn mistakes_are_named() {
        for (text, message) in [
            (r#"{"executionIntervalMinutes": 0}"#, "it must be 1 to 1440"),
            (r#"{"targetPorts": "29999-10000"}"#, "like \"10000-29999\""),
            (r#"{"targetPorts": "80-90"}"#, "from 1024 to 65535"),
            (r#"{"defaultScope": "cluster"}"#, "unknown variant `cluster`"),
            (r#"{"logging": {"level": "loud"}}"#, "the log levels are trace"),
        ] {
            let error = Read::text(text).unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn what_another_version_knows_is_named_and_ignored() {
        let read = Read::text(
            r#"{
                "tenantmode": "shared",
                "logging": {"level": "warn", "colour": {"of": "errors"}},
                "additionalCas": {"namespace": "pki", "secret": "roots", "key": "ca.pem", "proof": 1}
            }"#,
        );
        let Read { settings, unknown } = read.unwrap();
        assert_eq!(unknown, ["tenantmode", "logging.colour", "additionalCas.proof"]);
        assert_eq!(settings.logging.level, logging::Level::Warn);
        assert_eq!(settings.tenant_mode, TenantMode::Dedicated);
        assert!(settings.additional_cas.is_some());
        assert!(Read::text("{} {}").is_err());
    }
}
