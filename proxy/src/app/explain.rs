//! The commands for a node: they ask the agent in the same pod.

use std::future::Future;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use crate::admin::explain::State;
use crate::admin::socket;
use crate::cli::{self, OutputFormat};
use crate::telemetry::connections::Snapshot;

/// The exit code is 0 unless a step is missing.
pub fn explain(arguments: &cli::Explain) -> anyhow::Result<ExitCode> {
    let Some((namespace, name)) = split(&arguments.destination) else {
        bail!(
            "{:?} is not NAMESPACE/NAME of a Destination resource, as in shop/my-dest",
            arguments.destination
        );
    };
    let report = wait(socket::explain(&arguments.run, namespace, name))?;
    print(&match arguments.format {
        OutputFormat::Text => report.text(std::io::stdout().is_terminal()),
        OutputFormat::Json => format!("{:#}\n", report.json()),
    })?;
    Ok(match report.verdict() {
        State::Ok | State::Warning => ExitCode::SUCCESS,
        State::Failed => ExitCode::FAILURE,
    })
}

pub fn connections(arguments: &cli::Connections) -> anyhow::Result<ExitCode> {
    let open = wait(socket::connections(&arguments.run))?;
    print(&match arguments.format {
        OutputFormat::Text => table(&open),
        OutputFormat::Json => serde_json::to_string_pretty(&open)? + "\n",
    })?;
    Ok(ExitCode::SUCCESS)
}

fn split(destination: &str) -> Option<(&str, &str)> {
    let (namespace, name) = destination.split_once('/')?;
    let is_name = |name: &str| !name.is_empty() && !name.contains('/');
    (is_name(namespace) && is_name(name)).then_some((namespace, name))
}

fn wait<T>(answer: impl Future<Output = Result<T, socket::Error>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(answer)?)
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut output = std::io::stdout();
    output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush())
        .context("the answer cannot be printed")
}

fn table(open: &[Snapshot]) -> String {
    let head = [
        "ID",
        "PROTOCOL",
        "SOURCE",
        "RESOURCE",
        "DESTINATION",
        "TARGET",
        "STATE",
        "AGE",
        "IDLE",
        "FROM APP",
        "FROM TARGET",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(open.iter().map(|one| {
        [
            one.id.to_string(),
            one.protocol.to_string(),
            one.source.to_string(),
            one.cr.clone().unwrap_or_else(|| "-".to_owned()),
            one.destination.clone(),
            one.target.clone(),
            one.state.as_str().to_owned(),
            format!("{:.1} s", one.age_seconds),
            format!("{:.1} s", one.idle_seconds),
            bytes(one.bytes_from_app),
            bytes(one.bytes_from_target),
        ]
    }));
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |row: &[String; 11]| {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

fn bytes(count: Option<u64>) -> String {
    let Some(count) = count else {
        return "-".to_owned();
    };
    match count {
        0..10_240 => format!("{count} B"),
        10_240..10_485_760 => format!("{} KiB", count >> 10),
        _ => format!("{} MiB", count >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::connections::State;

    #[test]
    fn a_destination_is_named_by_namespace_and_name() {
        assert_eq!(split("shop/my-dest"), Some(("shop", "my-dest")));
        for wrong in ["my-dest", "/my-dest", "shop/", "a/b/c", ""] {
            assert_eq!(split(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn connections_are_told_in_columns() {
        let one = Snapshot {
            id: 7,
            protocol: "tcp".into(),
            cr: Some("shop/my-db".into()),
            destination: "db".into(),
            source: "10.244.1.9:4711".parse().unwrap(),
            target: "db.example:5432".into(),
            state: State::AppEnded,
            age_seconds: 61.04,
            idle_seconds: 0.5,
            bytes_from_app: Some(500),
            bytes_from_target: Some(20 << 20),
        };
        insta::assert_snapshot!(table(&[one]), @r"
        ID  PROTOCOL  SOURCE           RESOURCE    DESTINATION  TARGET           STATE      AGE     IDLE   FROM APP  FROM TARGET
        7   tcp       10.244.1.9:4711  shop/my-db  db           db.example:5432  app-ended  61.0 s  0.5 s  500 B     20 MiB
        ");
    }
}
