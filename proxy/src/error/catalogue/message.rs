//! The message of a row with its placeholders filled in.

use super::entry;
use crate::connect;
use crate::error::{Error, Exchange, Names};
use crate::resolve::{self, gateway};

/// The entry's message with its placeholders filled in.
pub fn message(error: &Error, names: Names<'_>) -> String {
    fill(entry(error).message, |placeholder| match placeholder {
        "name" => Some(shown(names.destination)),
        "cr" => Some(shown(names.cr)),
        "tenant" => Some(shown(names.tenant)),
        "instance" => Some(shown(names.instance)),
        "seconds" => seconds(error),
        "header" | "headers" => headers(error),
        "reason" => reason(error),
        _ => None,
    })
}

/// Replaces each `<placeholder>` once: what is filled in is not searched again.
fn fill(template: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut text = String::new();
    let mut parts = template.split('<');
    text.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let filled = part
            .split_once('>')
            .and_then(|(name, rest)| Some((value(name)?, rest)));
        match filled {
            Some((value, rest)) => text.extend([value.as_str(), rest]),
            None => text.extend(["<", part]),
        }
    }
    text
}

/// Names come from requests and resources: short, and nothing that could end a line.
fn shown(name: &str) -> String {
    const LIMIT: usize = 200;
    name.chars().filter(|c| !c.is_control()).take(LIMIT).collect()
}

fn seconds(error: &Error) -> Option<String> {
    match error {
        Error::Connect(connect::Error::TimedOut(limit)) | Error::Exchange(Exchange::NotAnswering(limit)) => {
            Some(limit.as_secs().to_string())
        }
        Error::Resolve(_)
        | Error::Connect(_)
        | Error::Credentials(_)
        | Error::Framing(_)
        | Error::Exchange(_) => None,
    }
}

fn headers(error: &Error) -> Option<String> {
    use gateway::Error as G;
    match error {
        Error::Exchange(Exchange::RepeatedHeaders(names)) => {
            let names: Vec<_> = names.iter().map(http::HeaderName::as_str).collect();
            Some(names.join(", "))
        }
        Error::Resolve(resolve::Error::Request(
            G::OnlyForGateways(name)
            | G::TooLong(name)
            | G::ChainVariableWithoutName(name)
            | G::NotSupported(name),
        )) => Some(shown(name.as_str())),
        Error::Resolve(_)
        | Error::Connect(_)
        | Error::Credentials(_)
        | Error::Framing(_)
        | Error::Exchange(_) => None,
    }
}

fn reason(error: &Error) -> Option<String> {
    match error {
        Error::Framing(violation) => Some(violation.to_string()),
        Error::Resolve(resolve::Error::CustomResource(obstacle)) => Some(obstacle.what().to_owned()),
        Error::Resolve(_) | Error::Connect(_) | Error::Credentials(_) | Error::Exchange(_) => None,
    }
}
