//! Measurements. Numbers are only good as ratios within a run: see docs/benchmarks/README.md.

mod cpu;
mod http;
mod load;
mod proxies;
mod report;
mod scale;

use anyhow::Result;

#[derive(clap::Subcommand)]
pub(crate) enum Bench {
    /// Keep-alive GET with an injected Basic credential, through the eBPF hook
    Http(http::Options),
    /// Resources on a real cluster of two nodes: how soon a new one is served, and memory, by how many there are
    Scale(scale::Options),
}

pub(crate) fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Http(options) => http::run(options),
        Bench::Scale(options) => scale::run(options),
    }
}
