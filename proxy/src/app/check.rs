//! Role `check`: says what the destination files contain and what is wrong with them.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Value, json};

use crate::cli::OutputFormat;
use crate::resolve::destination::Destination;
use crate::resolve::source::files::{FileSource, Loaded, Place, Problem, Snapshot, State};

/// Prints to standard output; exit code 0 if all destinations are good, else 1.
pub fn check(paths: &[PathBuf], format: OutputFormat) -> anyhow::Result<ExitCode> {
    let source = FileSource::new(paths.to_vec());
    let snapshot = source.load(None);
    let report = match format {
        OutputFormat::Text => text(&snapshot, Style::for_stdout()),
        OutputFormat::Json => format!("{:#}\n", as_json(&snapshot)),
    };
    let written = io::stdout().lock().write_all(report.as_bytes());
    written.context("writing the result to standard output")?;
    Ok(if is_good(&snapshot) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// No destination at all is a mistake too: nobody checks an empty folder on purpose.
fn is_good(snapshot: &Snapshot) -> bool {
    !snapshot.destinations.is_empty() && snapshot.all_problems().next().is_none()
}

/// Colours, if the output is a terminal and nobody asked to go without (<https://no-color.org>).
#[derive(Debug, Clone, Copy)]
struct Style {
    colour: bool,
}

impl Style {
    fn for_stdout() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            colour: io::stdout().is_terminal() && !unwanted,
        }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn ok(self) -> String {
        self.paint("32", "ok")
    }

    fn error(self) -> String {
        self.paint("1;31", "error")
    }

    fn warning(self) -> String {
        self.paint("33", "warning")
    }
}

fn text(snapshot: &Snapshot, style: Style) -> String {
    let mut lines = Vec::new();
    for loaded in &snapshot.destinations {
        if let State::Ok(destination) = &loaded.state {
            lines.push(format!("{}: {}", style.ok(), summary(destination)));
        }
        lines.extend(
            loaded
                .problems()
                .iter()
                .map(|p| format!("{}: {p}", style.error())),
        );
        lines.extend(
            loaded
                .warnings
                .iter()
                .map(|(place, warning)| format!("{}: {place}: {}: {warning}", style.warning(), loaded.name)),
        );
    }
    let problems = snapshot.problems.iter();
    lines.extend(problems.map(|p| format!("{}: {p}", style.error())));
    for path in &snapshot.ignored {
        let path = path.display();
        lines.push(format!(
            "{}: {path}: ignored, since its name ends like no destination file",
            style.warning()
        ));
    }
    lines.push(String::new());
    lines.push(conclusion(snapshot));
    lines.join("\n") + "\n"
}

/// `my-dest:80 -> HTTP https://host, BasicAuthentication`
fn summary(destination: &Destination) -> String {
    let name = &destination.name;
    let port = destination.service_port;
    let protocol = &destination.protocol;
    let summary = format!("{name}:{port} -> {} {}", protocol.as_str(), protocol.target());
    match protocol.authentication() {
        Some(authentication) => format!("{summary}, {authentication}"),
        None => summary,
    }
}

fn conclusion(snapshot: &Snapshot) -> String {
    let good = snapshot.destinations.iter();
    let good = good.filter(|d| matches!(d.state, State::Ok(_))).count();
    let problems = snapshot.all_problems().count();
    let good = count(good, "good destination");
    match (problems, snapshot.destinations.is_empty()) {
        (0, true) => "No destinations found. Put *.yaml, *.json or *.properties files into the folder; each needs at least Name, Type and URL or Address.".to_owned(),
        (0, false) => format!("{good}. Next: transparent-proxy run --destinations PATH -- COMMAND"),
        (problems, _) => format!(
            "{good}, {}. Correct the places above and check again.",
            count(problems, "problem")
        ),
    }
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

fn as_json(snapshot: &Snapshot) -> Value {
    let destinations = snapshot.destinations.iter().map(destination_json);
    json!({
        "ok": is_good(snapshot),
        "destinations": destinations.collect::<Vec<_>>(),
        "problems": snapshot.problems.iter().map(problem_json).collect::<Vec<_>>(),
        "ignored": snapshot.ignored.iter().map(|path| path.display().to_string()).collect::<Vec<_>>(),
    })
}

fn destination_json(loaded: &Loaded) -> Value {
    let warnings = loaded.warnings.iter().map(|(place, warning)| {
        let mut value = place_json(place);
        value["property"] = warning.property.as_str().into();
        value["message"] = warning.to_string().into();
        value
    });
    let mut value = json!({
        "name": loaded.name.as_str(),
        "origin": place_json(&loaded.origin),
        "ok": matches!(loaded.state, State::Ok(_)),
        "problems": loaded.problems().iter().map(problem_json).collect::<Vec<_>>(),
        "warnings": warnings.collect::<Vec<_>>(),
    });
    if let State::Ok(destination) = &loaded.state {
        let protocol = &destination.protocol;
        value["type"] = protocol.as_str().into();
        value["target"] = protocol.target().into();
        value["servicePort"] = destination.service_port.into();
        value["authentication"] = protocol.authentication().into();
    }
    value
}

fn problem_json(problem: &Problem) -> Value {
    let mut value = place_json(&problem.place);
    value["destination"] = problem.destination.as_deref().into();
    value["message"] = problem.cause.to_string().into();
    value
}

fn place_json(place: &Place) -> Value {
    json!({
        "file": place.file.display().to_string(),
        "line": place.position.map(|position| position.line),
        "column": place.position.map(|position| position.column),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;

    const PLAIN: Style = Style { colour: false };

    fn folder() -> tempfile::TempDir {
        // Closed, or there would be a warning about the secrets.
        let mode = fs::Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new().permissions(mode).tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write(
            "good.yaml",
            "Name: shop\nType: HTTP\nURL: https://shop.example/secret-path?key=MARKER\nAuthentication: BasicAuthentication\nUser: me\nPassword: MARKER\npasword: MARKER\n",
        );
        write("tcp.json", r#"{"Name":"db","Type":"TCP","Address":"[::1]:5432"}"#);
        write(
            "bad.yaml",
            "Name: bad\nType: HTTP\nURL: https://MARKER:MARKER@h\n",
        );
        write("notes.md", "MARKER");
        folder
    }

    fn shown(folder: &Path, report: &str) -> String {
        assert!(!report.contains("MARKER"), "{report}");
        report.replace(&folder.display().to_string(), "FOLDER")
    }

    #[test]
    fn the_report_names_targets_and_problems_but_no_secrets() {
        let folder = folder();
        let snapshot = FileSource::new(vec![folder.path().to_owned()]).load(None);
        insta::assert_snapshot!(shown(folder.path(), &text(&snapshot, PLAIN)));
        let json = format!("{:#}", as_json(&snapshot));
        insta::assert_snapshot!(shown(folder.path(), &json));
    }

    #[test]
    fn an_empty_folder_is_not_good() {
        let folder = tempfile::tempdir().unwrap();
        let snapshot = FileSource::new(vec![folder.path().to_owned()]).load(None);
        assert!(!is_good(&snapshot));
        insta::assert_snapshot!(text(&snapshot, PLAIN));
    }

    #[test]
    fn colours_are_for_terminals() {
        let snapshot = Snapshot::default();
        assert!(!text(&snapshot, PLAIN).contains('\x1b'));
        assert!(Style { colour: true }.error().contains('\x1b'));
    }
}
