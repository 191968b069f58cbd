//! `cargo xtask <task>`: everything one does with this repository.

use clap::Parser;

mod build_ebpf;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of this repository")]
enum Task {
    /// Build the eBPF programs; installs the tools for it if they are missing.
    BuildEbpf(build_ebpf::Options),
}

fn main() -> anyhow::Result<()> {
    match Task::parse() {
        Task::BuildEbpf(options) => build_ebpf::run(&options).map(drop),
    }
}
