//! The role `doctor`: whether this machine is fit, and what to change if not.

mod api_server;
mod checks;
mod foreign;
mod kernel;
mod node;
mod pod;
mod rights;

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use serde::Serialize;

use crate::cli::{Doctor, OutputFormat, Part};

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// Works, but not everything or not as well.
    Warning,
    Failed,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self {
            name,
            state: State::Ok,
            detail: detail.into(),
            remedy: None,
        }
    }

    fn warning(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            name,
            state: State::Warning,
            detail: detail.into(),
            remedy: Some(remedy.into()),
        }
    }

    fn failed(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            name,
            state: State::Failed,
            detail: detail.into(),
            remedy: Some(remedy.into()),
        }
    }

    /// For errors whose own text says what to do.
    fn error(name: &'static str, error: &anyhow::Error) -> Self {
        Self {
            name,
            state: State::Failed,
            detail: format!("{error:#}"),
            remedy: None,
        }
    }
}

/// Prints all findings. The exit code is 0 if the proxy can run here, else 1.
pub fn doctor(arguments: &Doctor) -> anyhow::Result<ExitCode> {
    let part = pod::part(arguments);
    let checks = match part {
        Part::Run => checks::all()?,
        part => pod::all(part, arguments)?,
    };
    let mut stdout = std::io::stdout();
    let output = match arguments.format {
        OutputFormat::Text => text(part, &checks, stdout.is_terminal()),
        OutputFormat::Json => json(part, &checks)? + "\n",
    };
    stdout.write_all(output.as_bytes())?;
    Ok(if is_fit(&checks) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn is_fit(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.state != State::Failed)
}

fn json(part: Part, checks: &[Check]) -> serde_json::Result<String> {
    serde_json::to_string_pretty(
        &serde_json::json!({ "role": role(part), "fit": is_fit(checks), "checks": checks }),
    )
}

fn text(part: Part, checks: &[Check], coloured: bool) -> String {
    let mut text = String::new();
    for check in checks {
        let (word, colour) = match check.state {
            State::Ok => ("ok     ", "32"),
            State::Warning => ("warning", "33"),
            State::Failed => ("failed ", "31"),
        };
        let word = if coloured {
            format!("\x1b[{colour}m{word}\x1b[0m")
        } else {
            word.to_owned()
        };
        writeln!(text, "{word}  {}: {}", check.name, check.detail).expect("writing to a string cannot fail");
        if let Some(remedy) = &check.remedy {
            writeln!(text, "         -> {remedy}").expect("writing to a string cannot fail");
        }
    }
    let place = if part == Part::Run { "machine" } else { "pod" };
    let conclusion = if is_fit(checks) {
        format!("This {place} is fit for `transparent-proxy {}`.", role(part))
    } else {
        format!("This {place} is not fit yet: see what failed above.")
    };
    text + "\n" + &conclusion + "\n"
}

fn role(part: Part) -> &'static str {
    match part {
        Part::Run => "run",
        Part::Agent => "agent",
        Part::Fallback => "agent --fallback",
        Part::Manager => "manager",
        Part::Healthcheck => "healthcheck",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks() -> [Check; 3] {
        [
            Check::ok("kernel", "Linux 6.1"),
            Check::warning("IPv6", "not available", "load it"),
            Check::failed("privileges", "none", "use sudo"),
        ]
    }

    #[test]
    fn every_finding_has_a_line_and_its_remedy() {
        insta::assert_snapshot!(text(Part::Run, &checks(), false), @r"
        ok       kernel: Linux 6.1
        warning  IPv6: not available
                 -> load it
        failed   privileges: none
                 -> use sudo

        This machine is not fit yet: see what failed above.
        ");
    }

    #[test]
    fn a_warning_alone_does_not_make_a_machine_unfit() {
        assert!(is_fit(&checks()[..2]));
        assert!(!is_fit(&checks()));
    }

    #[test]
    fn programs_can_read_the_findings() {
        let value: serde_json::Value = serde_json::from_str(&json(Part::Agent, &checks()).unwrap()).unwrap();
        assert_eq!((&value["fit"], &value["role"]), (&false.into(), &"agent".into()));
        assert_eq!(value["checks"][2]["state"], "failed");
        assert_eq!(value["checks"][0].get("remedy"), None);
    }

    #[test]
    fn colours_only_appear_on_terminals() {
        assert!(text(Part::Run, &checks(), true).contains("\x1b[31m"));
        assert!(!text(Part::Run, &checks(), false).contains('\x1b'));
    }
}
