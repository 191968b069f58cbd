//! The product on a real cluster of two nodes; `cargo xtask e2e` makes it and runs this.
#![expect(
    unreachable_pub,
    reason = "a test binary exports nothing; `pub` marks what other modules use"
)]
#![expect(
    clippy::unwrap_used,
    reason = "in helpers as in tests: a panic says where, and fails the scenario"
)]

mod harness;
mod runner;
mod scenarios;

use std::process::ExitCode;

use harness::cluster::Cluster;
use harness::world::World;

fn main() -> ExitCode {
    let Some(cluster) = Cluster::from_environment() else {
        println!("skipped: these scenarios need a cluster, which `cargo xtask e2e` makes");
        return ExitCode::SUCCESS;
    };
    let filters: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    runner::run(scenarios::ALL, &World::new(cluster), &filters)
}
