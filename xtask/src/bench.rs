//! Measurements against other proxies, side by side in one run. Numbers are
//! only good as ratios within a run: see docs/benchmarks/README.md.

mod cpu;
mod http;
mod load;
mod proxies;
mod report;

use anyhow::Result;

#[derive(clap::Subcommand)]
pub(crate) enum Bench {
    /// Keep-alive GET with an injected Basic credential, through the eBPF hook
    Http(http::Options),
}

pub(crate) fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Http(options) => http::run(options),
    }
}
