//! Metrics, as pages name them and as the program registers them: without prefix, and without what
//! their type adds.

use std::collections::BTreeSet;

use super::page::Page;
use super::{files, read};

/// As it is written, and as it is registered.
pub fn named_on(page: &Page) -> impl Iterator<Item = (&str, &str)> {
    let metrics = page.code().filter(|code| code.starts_with("tp_"));
    metrics.map(|metric| {
        let name = metric.trim_start_matches("tp_");
        (metric, name.trim_end_matches("_total").trim_end_matches("_info"))
    })
}

/// By all components together.
pub fn registered() -> BTreeSet<String> {
    let sources = files("proxy/src", "rs").into_iter();
    let sources = sources.filter(|path| !path.contains("tests"));
    sources.flat_map(|path| registered_in(&read(&path))).collect()
}

/// A name is followed by a sentence, or by the variable that has it.
fn registered_in(source: &str) -> Vec<String> {
    let program = source.split("#[cfg(test)]").next().unwrap_or_default();
    if !program.contains("Registry") && !program.contains("DescriptorEncoder") {
        return Vec::new();
    }
    let ends = program.match_indices("\",");
    let followed = ends.filter(|(end, _)| is_help(program[end + 2..].trim_start()));
    let names = followed.filter_map(|(end, _)| program[..end].rsplit('"').next());
    let names = names.filter(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
    names.map(str::to_owned).collect()
}

fn is_help(text: &str) -> bool {
    let sentence = text.strip_prefix('"');
    sentence.is_some_and(|text| text.starts_with(|c: char| c.is_ascii_uppercase() || c.is_ascii_digit()))
        || text.starts_with("help,")
}
