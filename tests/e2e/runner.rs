//! Runs scenarios one after the other, and reports as `cargo test` does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use tokio::time::Instant;

use crate::harness::world::World;

pub struct Scenario {
    pub name: &'static str,
    pub run: fn(&World),
    /// What all others build on: runs whatever was asked for.
    pub always: bool,
}

pub fn run(scenarios: &[Scenario], world: &World, filters: &[String]) -> ExitCode {
    let wanted = |scenario: &&Scenario| {
        let name = scenario.name;
        scenario.always || filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()))
    };
    let chosen: Vec<&Scenario> = scenarios.iter().filter(wanted).collect();
    println!("running {} scenarios", chosen.len());
    let start = Instant::now();
    let failed: Vec<&str> = chosen
        .iter()
        .filter(|scenario| !passes(scenario, world))
        .map(|scenario| scenario.name)
        .collect();
    if !failed.is_empty() {
        println!("\nfailures:\n    {}", failed.join("\n    "));
    }
    println!(
        "\ntest result: {}. {} passed; {} failed; 0 ignored; 0 measured; {} filtered out; finished in {:.2}s",
        if failed.is_empty() { "ok" } else { "FAILED" },
        chosen.len() - failed.len(),
        failed.len(),
        scenarios.len() - chosen.len(),
        start.elapsed().as_secs_f64()
    );
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn passes(scenario: &Scenario, world: &World) -> bool {
    let start = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| (scenario.run)(world)));
    let seconds = start.elapsed().as_secs_f64();
    let verdict = if result.is_ok() { "ok" } else { "FAILED" };
    println!("test {} ... {verdict} ({seconds:.1} s)", scenario.name);
    if result.is_err() {
        world.cluster.show_state();
    }
    result.is_ok()
}
