//! What a process holds in memory.

use std::fmt;

/// In kB: what is resident now, at most so far, and how much of it now is no part of files.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    pub now: u64,
    pub most: u64,
    pub anonymous: u64,
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { now, most, anonymous } = self;
        write!(
            f,
            "{now} kB resident, {most} kB at most, {anonymous} kB no part of files"
        )
    }
}

impl Memory {
    /// Panics if there is no such process.
    pub fn of(process: u32) -> Self {
        let file = format!("/proc/{process}/status");
        let status = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
        let value = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let text = line.unwrap_or_else(|| panic!("{file} has no {name}"));
            text.trim().trim_end_matches(" kB").parse().expect("a number")
        };
        Self {
            now: value("VmRSS:"),
            most: value("VmHWM:"),
            anonymous: value("RssAnon:"),
        }
    }
}
