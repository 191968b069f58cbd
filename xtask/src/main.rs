//! Everything one does with this repository: `cargo xtask <task>`.

mod bench;
mod build_ebpf;
mod daemon;
mod demo;
mod e2e;
mod image;
mod kubernetes;
mod lint;
mod machine;
mod modules;
mod peers;
mod progress;
mod shell;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

/// Builds, shows, tests and measures transparent-proxy.
///
/// Every task does its own set-up; a second run starts at once.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Build the kernel object, installing the toolchain for it if it is missing
    BuildEbpf(build_ebpf::Options),
    /// Set everything up and show the main job: curl without credentials reaches a server that demands them
    Demo(demo::Options),
    /// Set everything up and pass everything that needs no cluster; CI passes this and `e2e`
    Test(test::Options),
    /// Build Kubernetes (about 6 minutes, once) and fetch what runs containers, for tests on real clusters
    Kubernetes(kubernetes::Options),
    /// Pass the scenarios on a real cluster of two nodes, with all set-up; takes it down again
    E2e(e2e::Options),
    /// Build the image of the proxy: an archive for `ctr images import` and `docker load`
    Image(image::Options),
    /// Measure: against other proxies, side by side in one run; and how the number of resources counts
    #[command(subcommand)]
    Bench(bench::Bench),
    /// rustfmt, clippy, rustdoc, cargo-deny (if installed), unwanted words, import cycles
    Lint(lint::Options),
    /// Print which module of the proxy imports which, and the cycles
    Modules(modules::Options),
    /// Make third-party servers and clients available, without starting any; prints where they are
    Peers(peers::Options),
}

fn main() -> ExitCode {
    match run(&Task::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: &Task) -> anyhow::Result<()> {
    match task {
        Task::BuildEbpf(options) => build_ebpf::run(options).map(drop),
        Task::Demo(options) => demo::run(options),
        Task::Test(options) => test::run(options),
        Task::Kubernetes(options) => kubernetes::run(options),
        Task::E2e(options) => e2e::run(options),
        Task::Image(options) => image::run(options),
        Task::Bench(bench) => bench::run(bench),
        Task::Lint(options) => lint::run(options),
        Task::Modules(options) => modules::run(options),
        Task::Peers(options) => peers::run(options),
    }
}
