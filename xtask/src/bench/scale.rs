//! `bench scale`: the scenario of that name on a real cluster, with the optimised build.

use anyhow::{Result, ensure};

use crate::e2e;

const SCENARIO: &str = "scale::";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many Destination resources, ascending, separated by commas; a Service range of /16 holds about 60,000
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000,5000",
          value_parser = clap::value_parser!(u32).range(1..=20_000))]
    sizes: Vec<u32>,

    /// New resources that are timed at each size; a p99 needs a hundred
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    samples: u32,

    /// Leave the cluster running at the end; `tests/cluster/down` ends it
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(
        options.sizes.is_sorted_by(|one, next| one < next),
        "--sizes must ascend: each size adds to the one before"
    );
    let sizes: Vec<String> = options.sizes.iter().map(u32::to_string).collect();
    let environment = [
        ("SCALE_SIZES", sizes.join(",")),
        ("SCALE_SAMPLES", options.samples.to_string()),
    ];
    let cluster = e2e::Options {
        release: true,
        keep: options.keep,
        filters: vec![SCENARIO.to_owned()],
    };
    e2e::pass("bench scale", &cluster, &environment)
}
