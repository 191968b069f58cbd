//! A report for people and for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Report, State};

impl Report {
    /// What was found, and what follows from it.
    pub fn json(&self) -> Value {
        json!({"verdict": self.verdict(), "findings": self.findings(), "report": self})
    }

    pub fn text(&self, coloured: bool) -> String {
        let mut text = format!(
            "{}/{}, as the agent on {} sees it\n\n",
            self.namespace, self.name, self.agent.node
        );
        for finding in self.findings() {
            let _ = writeln!(
                text,
                "{}  {}: {}",
                word(finding.state, coloured),
                finding.step,
                finding.text
            );
            if let Some(remedy) = finding.remedy {
                let _ = writeln!(text, "         -> {remedy}");
            }
        }
        let counters = &self.counters;
        let _ = writeln!(
            text,
            "\n{} connections ({} open), {} requests, {} errors, {} refused since this agent started\n{}",
            counters.connections,
            counters.open_connections,
            counters.requests,
            counters.errors,
            counters.refused,
            self.conclusion()
        );
        text
    }

    fn conclusion(&self) -> &'static str {
        match self.verdict() {
            State::Ok => "Nothing is in the way here.",
            State::Warning => "It works, but see the warnings.",
            State::Failed => "It does not work: see what failed first.",
        }
    }
}

fn word(state: State, coloured: bool) -> String {
    let (word, colour) = match state {
        State::Ok => ("ok     ", "32"),
        State::Warning => ("warning", "33"),
        State::Failed => ("failed ", "31"),
    };
    if coloured {
        format!("\x1b[{colour}m{word}\x1b[0m")
    } else {
        word.to_owned()
    }
}
