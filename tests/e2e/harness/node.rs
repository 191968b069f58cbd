//! A node: its programs, its cgroups, and what can be done to them.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cluster::{Cluster, text_of};

pub struct Node<'a> {
    cluster: &'a Cluster,
    pub name: String,
}

impl<'a> Node<'a> {
    pub fn new(cluster: &'a Cluster, name: &str) -> Self {
        Self {
            cluster,
            name: name.to_owned(),
        }
    }

    /// Runs a program on the node, as its own processes run; it must succeed.
    pub fn run(&self, command: &[&str]) -> String {
        let output = self.cluster.command(&self.name, command).output();
        text_of(&command.join(" "), &output.expect("the script starts"))
    }

    /// Where the node's tree of cgroups, version 2, begins for the machine.
    pub fn cgroup(&self) -> PathBuf {
        let list = fs::read_to_string(self.cluster.state.join("cgroups")).expect("the cluster has cgroups");
        let unified = list
            .lines()
            .find(|line| line.starts_with("/sys/fs/cgroup/unified/"))
            .expect("there is a hierarchy of version 2");
        Path::new(unified).join(&self.name)
    }

    /// Stops a daemon of the node, like `kube-apiserver`: it keeps its connections and says nothing.
    pub fn freeze(&self, daemon: &str) -> Frozen {
        let file = self.cluster.state.join(&self.name).join(format!("{daemon}.pid"));
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let pid = Pid::from_raw(text.trim().parse().expect("a process id"));
        kill(pid, Signal::SIGSTOP).expect("the daemon is there");
        Frozen(pid)
    }

    /// The machine's numbers of the processes of a pod that have this name.
    pub fn processes(&self, pod_uid: &str, name: &str) -> Vec<Pid> {
        cgroups_below(&self.cgroup())
            .iter()
            .filter(|path| path.display().to_string().contains(&format!("pod{pod_uid}")))
            .flat_map(|path| fs::read_to_string(path.join("cgroup.procs")))
            .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
            .filter(|pid| is_called(pid, name))
            .map(|pid| Pid::from_raw(pid.parse().expect("a process id")))
            .collect()
    }
}

fn is_called(pid: &str, name: &str) -> bool {
    // Longer names are cut off there; see proc_pid_comm(5).
    let name = &name[..name.len().min(15)];
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|text| text.trim_end() == name)
}

fn cgroups_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(cgroups_below(&entry.path()));
        }
    }
    found
}

/// Goes on when this is dropped.
#[must_use = "a daemon goes on when this is dropped"]
pub struct Frozen(Pid);

impl Drop for Frozen {
    fn drop(&mut self) {
        kill(self.0, Signal::SIGCONT).ok();
    }
}
