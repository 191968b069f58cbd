//! The command `crds`.

use std::process::ExitCode;

use anyhow::Context as _;

use crate::api::destination;

pub fn print() -> anyhow::Result<ExitCode> {
    print!("{}", yaml()?);
    Ok(ExitCode::SUCCESS)
}

/// What the chart ships too.
fn yaml() -> anyhow::Result<String> {
    serde_saphyr::to_string(&destination::definition()).context("the definition cannot be written as YAML")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chart_ships_what_is_printed() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../charts/transparent-proxy/files/destination-crd.yaml"
        );
        let shipped = std::fs::read_to_string(path).unwrap();
        assert_eq!(
            shipped,
            yaml().unwrap(),
            "write it again: transparent-proxy crds > {path}"
        );
    }
}
