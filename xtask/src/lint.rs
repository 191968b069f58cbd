//! What keeps the code in shape.

mod words;

use anyhow::Result;

use crate::modules;
use crate::progress::Progress;
use crate::shell::{cargo, find};

#[derive(clap::Args, Default)]
pub(crate) struct Options {}

/// Steps that [`steps`] takes.
pub(crate) const STEPS: usize = 6;

pub(crate) fn run(_options: &Options) -> Result<()> {
    let mut progress = Progress::new("lint", STEPS);
    steps(&mut progress)?;
    progress.done();
    Ok(())
}

/// The quick ones first.
pub(crate) fn steps(progress: &mut Progress) -> Result<()> {
    progress.command("rustfmt", cargo().args(["fmt", "--all", "--check"]))?;
    progress.step("words that do not belong here");
    words::check()?;
    progress.step("import cycles");
    modules::check()?;
    deny(progress)?;
    progress.command(
        "clippy",
        cargo().args(["clippy", "--locked", "--all-targets", "--", "-D", "warnings"]),
    )?;
    progress.command(
        "rustdoc",
        cargo()
            .args(["doc", "--locked", "--no-deps", "--document-private-items"])
            .env("RUSTDOCFLAGS", "-D rustdoc::broken-intra-doc-links"),
    )
}

fn deny(progress: &mut Progress) -> Result<()> {
    if find("cargo-deny").is_none() {
        progress.step("licences and sources: left out, cargo-deny is not installed");
        return Ok(());
    }
    // Advisories are news about others' code: they warn, they do not block a change here.
    let checks = ["deny", "--offline", "check", "licenses", "bans", "sources"];
    progress.command("licences and sources", cargo().args(checks))
}
