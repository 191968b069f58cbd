//! A cluster, as long as this value lives.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{Environment, interrupt, state};
use crate::kubernetes::{self, Cluster};
use crate::progress::Progress;
use crate::shell::{as_root, output};

#[must_use = "the cluster is taken down when this is dropped"]
pub(super) struct Running {
    cluster: Cluster,
    keep: bool,
}

impl Running {
    /// What an earlier run left is removed first.
    pub(super) fn start(
        cluster: Cluster,
        images: &[PathBuf],
        keep: bool,
        progress: &mut Progress,
    ) -> Result<Self> {
        let running = Self { cluster, keep };
        output(&mut running.script("down"))?;
        progress.command("cluster of two nodes", &mut running.script("up"))?;
        progress.quietly("import of images", running.script("load").args(images))?;
        Ok(running)
    }

    /// For scenarios and scripts.
    pub(super) fn environment(&self) -> Environment {
        let own = [
            ("CLUSTER_STATE", state().into_os_string()),
            ("CLUSTER_NODES", "2".into()),
            ("CLUSTER_SCRIPTS", kubernetes::sources().into_os_string()),
        ];
        let cluster = self.cluster.environment();
        let cluster = cluster.map(|(name, value)| (name, value.as_os_str().to_owned()));
        own.into_iter().chain(cluster).collect()
    }

    fn script(&self, name: &str) -> Command {
        let mut script = as_root(kubernetes::sources().join(name));
        // Whoever presses Ctrl-C twice shall not stop the removal.
        interrupt::group(&mut script).envs(self.environment());
        script
    }

    fn say_how_to_use_it(&self) {
        println!("    The cluster goes on. For the scripts in tests/cluster:");
        for (name, value) in self.environment() {
            println!("        export {name}={}", Path::new(&value).display());
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.keep {
            self.say_how_to_use_it();
        } else if let Err(error) = output(&mut self.script("down")).context("the cluster can be taken down") {
            println!("    {error:#}");
        }
    }
}
