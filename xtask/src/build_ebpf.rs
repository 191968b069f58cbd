//! (placeholder)

#[derive(clap::Args, Default)]
pub(crate) struct Options {}

#[expect(clippy::unnecessary_wraps, reason = "placeholder")]
pub(crate) fn run(_options: &Options) -> anyhow::Result<()> {
    Ok(())
}
