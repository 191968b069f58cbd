//! Third-party servers and clients for tests, demo and benchmark, without
//! starting a daemon and without touching the system's configuration.
//!
//! What is installed is used. Otherwise servers are unpacked from Debian's
//! packages into a private folder ([`debian`]), Envoy comes from a Python
//! wheel ([`envoy`]), Kubernetes is built ([`crate::kubernetes`]), and tools
//! without services are installed by apt-get.

pub(crate) mod debian;
mod envoy;
mod node;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use serde::Serialize;

use crate::kubernetes;
use crate::shell;
use crate::workspace;

/// Says where tests find the file with all paths.
pub(crate) const LIST_VARIABLE: &str = "TRANSPARENT_PROXY_PEERS";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Names of peers; all by default
    names: Vec<String>,
}

#[derive(Clone, Copy)]
struct Known {
    name: &'static str,
    /// Makes the program print its version and leave with status 0.
    version: &'static str,
    origin: Origin,
}

#[derive(Clone, Copy)]
enum Origin {
    /// Unpacked privately: the Debian package would start a service or is only wanted here.
    Unpacked {
        package: &'static str,
        program: &'static str,
    },
    /// Installed by apt-get: has no service.
    Installed {
        package: &'static str,
    },
    EnvoyWheel,
    /// Built out of Go modules, in the version that the tests are made for.
    Kubernetes,
}

const fn unpacked(
    name: &'static str,
    version: &'static str,
    package: &'static str,
    program: &'static str,
) -> Known {
    Known {
        name,
        version,
        origin: Origin::Unpacked { package, program },
    }
}

const fn installed(name: &'static str, version: &'static str, package: &'static str) -> Known {
    Known {
        name,
        version,
        origin: Origin::Installed { package },
    }
}

const fn kubernetes(name: &'static str, version: &'static str) -> Known {
    Known {
        name,
        version,
        origin: Origin::Kubernetes,
    }
}

const POSTGRESQL: &str = "postgresql-15";

const KNOWN: &[Known] = &[
    unpacked("nginx", "-v", "nginx", "usr/sbin/nginx"),
    unpacked("haproxy", "-v", "haproxy", "usr/sbin/haproxy"),
    unpacked("wrk", "--version", "wrk", "usr/bin/wrk"),
    unpacked(
        "postgres",
        "--version",
        POSTGRESQL,
        "usr/lib/postgresql/15/bin/postgres",
    ),
    unpacked(
        "initdb",
        "--version",
        POSTGRESQL,
        "usr/lib/postgresql/15/bin/initdb",
    ),
    unpacked("psql", "--version", POSTGRESQL, "usr/lib/postgresql/15/bin/psql"),
    Known {
        name: "envoy",
        version: "--version",
        origin: Origin::EnvoyWheel,
    },
    kubernetes("etcd", "--version"),
    kubernetes("helm", "version --short"),
    kubernetes("kube-apiserver", "--version"),
    kubernetes("kubectl", "version --client"),
    installed("openssl", "version", "openssl"),
    installed("curl", "--version", "curl"),
    installed("python3", "--version", "python3"),
    installed("go", "version", "golang-go"),
    installed("java", "--version", "openjdk-17-jdk-headless"),
    installed("javac", "--version", "openjdk-17-jdk-headless"),
    installed("node", "--version", "nodejs"),
    installed("npm", "--version", "npm"),
];

#[derive(Serialize, Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) program: PathBuf,
    pub(crate) version: String,
}

/// What is here, and why the rest is not.
#[derive(Serialize, Default)]
pub(crate) struct Peers {
    #[serde(flatten)]
    found: BTreeMap<&'static str, Peer>,
    #[serde(skip)]
    missing: BTreeMap<&'static str, String>,
}

impl Peers {
    pub(crate) fn get(&self, name: &str) -> Result<&Peer> {
        let reason = || {
            self.missing
                .get(name)
                .map_or("it was not asked for", String::as_str)
        };
        self.found
            .get(name)
            .ok_or_else(|| anyhow!("{name} is not available: {}", reason()))
    }

    pub(crate) fn program(&self, name: &str) -> Result<&Path> {
        Ok(&self.get(name)?.program)
    }

    pub(crate) fn missing(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.missing.iter().map(|(name, reason)| (*name, reason.as_str()))
    }

    /// Writes the list that tests read.
    pub(crate) fn save(&self) -> Result<PathBuf> {
        let file = workspace::target().join("peers.json");
        fs::create_dir_all(workspace::target()).context("the target folder can be made")?;
        let text = serde_json::to_string_pretty(self).context("the list of peers is JSON")?;
        fs::write(&file, text + "\n").with_context(|| format!("{} can be written", file.display()))?;
        Ok(file)
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let names: Vec<&str> = match options.names.as_slice() {
        [] => all(),
        names => names.iter().map(String::as_str).collect(),
    };
    let peers = provide(&names)?;
    for (name, peer) in &peers.found {
        println!("{name:10} {}  ({})", peer.program.display(), peer.version);
    }
    for (name, reason) in peers.missing() {
        println!("{name:10} missing: {reason}");
    }
    println!("listed in {}", peers.save()?.display());
    Ok(())
}

pub(crate) fn all() -> Vec<&'static str> {
    KNOWN.iter().map(|known| known.name).collect()
}

/// Finds or fetches the named peers. One that cannot be had is listed as missing.
pub(crate) fn provide(names: &[&str]) -> Result<Peers> {
    let mut peers = Peers::default();
    for name in names {
        let Some(known) = KNOWN.iter().find(|known| known.name == *name) else {
            bail!("no peer is called {name}; there are: {}", all().join(", "));
        };
        match peer(known) {
            Ok(peer) => {
                peers.found.insert(known.name, peer);
            }
            Err(error) => {
                peers.missing.insert(known.name, format!("{error:#}"));
            }
        }
    }
    Ok(peers)
}

/// Node modules of the servers and clients in `tests/peers`.
pub(crate) fn provide_node_modules(peers: &Peers) -> Result<()> {
    node::provide(peers)
}

fn peer(known: &Known) -> Result<Peer> {
    if let Some(peer) = present(known) {
        return Ok(peer);
    }
    let program = match known.origin {
        Origin::Unpacked { package, program } => debian::unpack(package, program)?,
        Origin::Installed { package } => debian::install(package, known.name)?,
        Origin::EnvoyWheel => envoy::fetch()?,
        Origin::Kubernetes => kubernetes::build_alone()?.join(known.name),
    };
    described(known, program.clone())
        .with_context(|| format!("{} does not run on this machine", program.display()))
}

/// Installed by the user, or unpacked by an earlier run.
fn present(known: &Known) -> Option<Peer> {
    let private = match known.origin {
        Origin::Unpacked { package, program } => Some(debian::unpacked(package, program)),
        Origin::Installed { .. } => None,
        Origin::EnvoyWheel => Some(envoy::program()),
        Origin::Kubernetes => kubernetes::programs().ok().map(|folder| folder.join(known.name)),
    };
    let installed = match known.origin {
        Origin::Unpacked {
            package: POSTGRESQL,
            program,
        } => Some(Path::new("/").join(program)),
        Origin::Kubernetes => None,
        Origin::Unpacked { .. } | Origin::Installed { .. } | Origin::EnvoyWheel => shell::find(known.name),
    };
    [installed, private]
        .into_iter()
        .flatten()
        .find_map(|program| described(known, program))
}

fn described(known: &Known, program: PathBuf) -> Option<Peer> {
    if !shell::is_executable(&program) {
        return None;
    }
    Some(Peer {
        version: shell::version(&program, known.version)?,
        program,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = provide(&["ngnix"]).err().expect("unknown").to_string();
        assert!(
            error.starts_with("no peer is called ngnix; there are: nginx, haproxy"),
            "{error}"
        );
    }

    #[test]
    fn a_missing_peer_says_why() {
        let missing = BTreeMap::from([("haproxy", "no apt-get on this machine".to_owned())]);
        let peers = Peers {
            found: BTreeMap::new(),
            missing,
        };
        let error = peers.get("haproxy").expect_err("missing").to_string();
        assert_eq!(error, "haproxy is not available: no apt-get on this machine");
    }
}
