//! CPU time and memory of a proxy's processes, from /proc.

use std::fs;

use anyhow::{Context, Result};

/// The processes that count as the proxy.
pub(super) enum Processes {
    /// A server and everything below it.
    Tree {
        root: u32,
    },
    /// Those of a tree that run the program of this name: `run` has its
    /// command (here the load generator) below itself.
    Named {
        root: u32,
        name: &'static str,
    },
    None,
}

/// One line of /proc/PID/stat, see `proc_pid_stat(5)`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    name: String,
    ticks: u64,
    resident_pages: u64,
}

impl Processes {
    pub(super) fn cpu_seconds(&self) -> Result<f64> {
        let per_second = ticks_per_second()?;
        let ticks: u64 = self.stats().iter().map(|stat| stat.ticks).sum();
        #[expect(
            clippy::cast_precision_loss,
            reason = "ticks since the start of a process fit into 52 bits"
        )]
        Ok(ticks as f64 / per_second as f64)
    }

    pub(super) fn resident_kib(&self) -> Result<u64> {
        let page = sysconf(nix::unistd::SysconfVar::PAGE_SIZE)?;
        Ok(self.stats().iter().map(|stat| stat.resident_pages).sum::<u64>() * page / 1024)
    }

    fn stats(&self) -> Vec<Stat> {
        match self {
            Self::Tree { root } => tree(*root),
            Self::Named { root, name } => tree(*root)
                .into_iter()
                .filter(|stat| stat.name == *name)
                .collect(),
            Self::None => Vec::new(),
        }
    }
}

fn ticks_per_second() -> Result<u64> {
    sysconf(nix::unistd::SysconfVar::CLK_TCK)
}

fn sysconf(variable: nix::unistd::SysconfVar) -> Result<u64> {
    let value = nix::unistd::sysconf(variable)
        .context("sysconf works")?
        .context("sysconf has a value")?;
    u64::try_from(value).context("sysconf is positive")
}

fn tree(root: u32) -> Vec<Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    // A process that ended meanwhile has been counted by its parent.
    let all: Vec<(u32, Stat)> = pids.filter_map(|pid| Some((pid, stat(pid)?))).collect();
    let mut inside = vec![root];
    let mut next = 0;
    while let Some(parent) = inside.get(next).copied() {
        inside.extend(
            all.iter()
                .filter(|(_, stat)| stat.parent == parent)
                .map(|(pid, _)| *pid),
        );
        next += 1;
    }
    all.into_iter()
        .filter(|(pid, _)| inside.contains(pid))
        .map(|(_, stat)| stat)
        .collect()
}

fn stat(pid: u32) -> Option<Stat> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name stands in parentheses and may itself contain some.
fn parse(line: &str) -> Option<Stat> {
    let (head, rest) = line.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        parent: u32::try_from(number(4)?).ok()?,
        name,
        // utime, stime, and those of children that were waited for
        ticks: number(14)? + number(15)? + number(16)? + number(17)?,
        resident_pages: number(24)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_is_read_by_field_number() {
        let line = "42 (odd ) name) S 7 42 42 0 -1 4194560 1 2 3 4 100 20 3 1 20 0 2 0 500 1000 250 18446744073709551615\n";
        let expected = Stat {
            parent: 7,
            name: "odd ) name".into(),
            ticks: 124,
            resident_pages: 250,
        };
        assert_eq!(parse(line), Some(expected));
    }

    #[test]
    fn this_process_has_memory() {
        let processes = Processes::Tree {
            root: std::process::id(),
        };
        assert!(processes.resident_kib().expect("measured") > 0);
    }

    #[test]
    fn processes_of_other_names_do_not_count() {
        let processes = Processes::Named {
            root: std::process::id(),
            name: "nobody-has-this",
        };
        assert_eq!(processes.resident_kib().expect("measured"), 0);
    }
}
