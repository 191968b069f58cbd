//! A reader of metrics that forgives nothing, for tests: scrapers differ in what they overlook.

use std::collections::{BTreeMap, BTreeSet};

use super::Exposition;

/// A metric with all its series.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Family {
    pub kind: String,
    pub help: String,
    /// By name and labels, as they are written.
    pub samples: BTreeMap<String, f64>,
}

/// By the names that `OpenMetrics` gives them, in either format.
pub type Families = BTreeMap<String, Family>;

/// Says what is wrong first, and where.
pub fn parse(text: &str, exposition: Exposition) -> Result<Families, String> {
    let body = match exposition {
        Exposition::OpenMetrics => text
            .strip_suffix("# EOF\n")
            .ok_or("the last line is not `# EOF`")?,
        Exposition::Prometheus => text,
    };
    if !body.is_empty() && !body.ends_with('\n') {
        return Err("the last line does not end".into());
    }
    let mut reader = Reader {
        exposition,
        families: Families::new(),
        declared: BTreeSet::new(),
        current: None,
    };
    for (line, number) in body.lines().zip(1..) {
        reader
            .line(line)
            .map_err(|problem| format!("line {number}: {problem}: {line}"))?;
    }
    reader.end()?;
    Ok(reader.families)
}

struct Reader {
    exposition: Exposition,
    families: Families,
    /// Names in declarations, as written.
    declared: BTreeSet<String>,
    /// Declared name and what follows it.
    current: Option<(String, Family)>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let Some(comment) = line.strip_prefix('#') else {
            return self.sample(line);
        };
        let mut words = comment
            .strip_prefix(' ')
            .ok_or("no blank after #")?
            .splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("HELP"), Some(name), Some(help)) => self.help(name, help),
            (Some("TYPE"), Some(name), Some(kind)) => self.kind(name, kind),
            (Some("UNIT"), Some(name), Some(unit)) if self.exposition == Exposition::OpenMetrics => {
                let fits = self.is_current(name) && name.ends_with(&format!("_{unit}"));
                fits.then_some(())
                    .ok_or_else(|| "a unit that is not in the name".into())
            }
            _ => Err("not a declaration".into()),
        }
    }

    fn is_current(&self, name: &str) -> bool {
        self.current.as_ref().is_some_and(|(current, _)| current == name)
    }

    fn family(&mut self, name: &str) -> Result<&mut Family, String> {
        if !self.is_current(name) {
            self.end()?;
            if !is_name(name) || !self.declared.insert(name.to_owned()) {
                return Err("no name, or one that was declared before".into());
            }
        }
        let (_, family) = self
            .current
            .get_or_insert_with(|| (name.to_owned(), Family::default()));
        if family.samples.is_empty() {
            Ok(family)
        } else {
            Err("a declaration behind samples".into())
        }
    }

    fn help(&mut self, name: &str, help: &str) -> Result<(), String> {
        let help = unescape(help, self.exposition == Exposition::OpenMetrics)?;
        let family = self.family(name)?;
        if help.is_empty() || !family.help.is_empty() {
            return Err("no help, or a second one".into());
        }
        family.help = help;
        Ok(())
    }

    fn kind(&mut self, name: &str, kind: &str) -> Result<(), String> {
        let known = match self.exposition {
            Exposition::OpenMetrics => ["counter", "gauge", "histogram", "info"],
            Exposition::Prometheus => ["counter", "gauge", "histogram", "untyped"],
        };
        let family = self.family(name)?;
        if !known.contains(&kind) || !family.kind.is_empty() {
            return Err("not a type, or a second one".into());
        }
        kind.clone_into(&mut family.kind);
        Ok(())
    }

    fn sample(&mut self, line: &str) -> Result<(), String> {
        let (series, value) = line.rsplit_once(' ').ok_or("no value")?;
        let value: f64 = value.parse().map_err(|_no_number| "the value is no number")?;
        let (name, labels) = split(series)?;
        let labels = parse_labels(labels)?;
        let exposition = self.exposition;
        let (declared, family) = self.current.as_mut().ok_or("a sample without declaration")?;
        let suffix = name.strip_prefix(declared.as_str()).ok_or("not of this family")?;
        check_suffix(exposition, &family.kind, suffix, &labels)?;
        if matches!(suffix, "_total" | "_count" | "_bucket") && !(value >= 0.0 && value.is_finite()) {
            return Err("no count".into());
        }
        match family.samples.insert(series.to_owned(), value) {
            None => Ok(()),
            Some(_) => Err("a series twice".into()),
        }
    }

    /// Closes a family.
    fn end(&mut self) -> Result<(), String> {
        let Some((declared, family)) = self.current.take() else {
            return Ok(());
        };
        if family.kind.is_empty() || family.help.is_empty() {
            return Err(format!("{declared} has no type or no help"));
        }
        if family.kind == "histogram" && !family.samples.is_empty() {
            check_buckets(&declared, &family)?;
        }
        let name = match (self.exposition, family.kind.as_str()) {
            (Exposition::Prometheus, "counter") => declared.strip_suffix("_total"),
            (Exposition::Prometheus, "gauge") => declared.strip_suffix("_info"),
            _ => None,
        };
        let name = name.unwrap_or(&declared).to_owned();
        match self.families.insert(name, family) {
            None => Ok(()),
            Some(_) => Err(format!("{declared} is declared twice")),
        }
    }
}

fn check_suffix(
    exposition: Exposition,
    kind: &str,
    suffix: &str,
    labels: &[(String, String)],
) -> Result<(), String> {
    let suffixes: &[&str] = match (exposition, kind) {
        (Exposition::OpenMetrics, "counter") => &["_total"],
        (Exposition::OpenMetrics, "info") => &["_info"],
        (_, "histogram") => &["_bucket", "_sum", "_count"],
        _ => &[""],
    };
    if !suffixes.contains(&suffix) {
        return Err(format!("a {kind} does not end in {suffix:?}"));
    }
    if labels.iter().any(|(name, _)| name == "le") != (suffix == "_bucket") {
        return Err("`le` belongs to buckets, and to nothing else".into());
    }
    Ok(())
}

type Labels = Vec<(String, String)>;

/// Cumulative, and complete.
fn check_buckets(name: &str, family: &Family) -> Result<(), String> {
    let mut buckets: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
    let mut counts = BTreeMap::new();
    for (series, value) in &family.samples {
        let (sample, labels) = split(series)?;
        let (bounds, others): (Vec<_>, Vec<_>) = parse_labels(labels)?
            .into_iter()
            .partition(|(name, _)| name == "le");
        if sample.ends_with("_count") {
            counts.insert(others, *value);
        } else if let Some((_, bound)) = bounds.first() {
            let bound = bound
                .parse()
                .map_err(|_no_number| format!("{name}: bound {bound}"))?;
            buckets.entry(others).or_default().push((bound, *value));
        }
    }
    for (labels, mut steps) in buckets {
        steps.sort_by(|a, b| a.0.total_cmp(&b.0));
        let rising = steps.windows(2).all(|pair| pair[0].1 <= pair[1].1);
        let last = steps.last().copied();
        let total = counts.get(&labels).map(|count| (f64::INFINITY, *count));
        if !rising || last != total {
            return Err(format!("{name}: buckets {steps:?} with count {total:?}"));
        }
    }
    Ok(())
}

/// Name, and what is between the braces.
fn split(series: &str) -> Result<(&str, &str), String> {
    let (name, labels) = match series.split_once('{') {
        None => (series, ""),
        Some((name, rest)) => (name, rest.strip_suffix('}').ok_or("labels without end")?),
    };
    if is_name(name) {
        Ok((name, labels))
    } else {
        Err(format!("{name:?} is no name"))
    }
}

fn parse_labels(mut text: &str) -> Result<Labels, String> {
    let mut labels = Labels::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"").ok_or("a label without value")?;
        let end = end_of_value(rest).ok_or("a value without end")?;
        let value = unescape(&rest[..end], true)?;
        if !is_name(name) || name.contains(':') || labels.iter().any(|(known, _)| known == name) {
            return Err(format!(
                "{name:?} is no name of a label, or one that was there before"
            ));
        }
        labels.push((name.to_owned(), value));
        text = &rest[end + 1..];
        if let Some(more) = text.strip_prefix(',') {
            if more.is_empty() {
                return Err("a comma behind the last label".into());
            }
            text = more;
        } else if !text.is_empty() {
            return Err("no comma between labels".into());
        }
    }
    Ok(labels)
}

/// Where the closing quote is.
fn end_of_value(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, char)| {
        let ends = char == '"' && !escaped;
        escaped = char == '\\' && !escaped;
        ends.then_some(at)
    })
}

fn unescape(text: &str, quotes_are_special: bool) -> Result<String, String> {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            '"' if quotes_are_special => return Err("a quote that is not escaped".into()),
            '\\' => match chars.next() {
                Some('n') => plain.push('\n'),
                Some('\\') => plain.push('\\'),
                Some('"') if quotes_are_special => plain.push('"'),
                other => return Err(format!("an escape of {other:?}")),
            },
            char => plain.push(char),
        }
    }
    Ok(plain)
}

fn is_name(name: &str) -> bool {
    let fits = |char: char| char.is_ascii_alphanumeric() || char == '_' || char == ':';
    name.chars().all(fits) && !name.is_empty() && !name.starts_with(|char: char| char.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_breaks_a_rule_is_refused() {
        let head = "# HELP a A\n# TYPE a counter\n";
        for (text, problem) in [
            ("", "the last line is not"),
            ("# EOF", "the last line is not"),
            ("a_total 1\n# EOF\n", "a sample without declaration"),
            (&format!("{head}a 1\n# EOF\n"), "a counter does not end in"),
            (&format!("{head}a_total 1\na_total 1\n# EOF\n"), "a series twice"),
            (&format!("{head}a_total -1\n# EOF\n"), "no count"),
            (&format!("{head}a_total x\n# EOF\n"), "the value is no number"),
            (&format!("{head}a_total{{b=\"c\"\n# EOF\n"), "no value"),
            (
                &format!("{head}a_total{{b=\"c\" 1\n# EOF\n"),
                "labels without end",
            ),
            (&format!("{head}a_total{{b=\"\\x\"}} 1\n# EOF\n"), "an escape"),
            (
                &format!("{head}a_total{{b=\"c\",b=\"d\"}} 1\n# EOF\n"),
                "no name of a label",
            ),
            (&format!("{head}a_total{{b=\"c\",}} 1\n# EOF\n"), "a comma"),
            (&format!("{head}a_total{{le=\"1\"}} 1\n# EOF\n"), "`le` belongs"),
            (&format!("{head}{head}# EOF\n"), "no help, or a second one"),
            (
                &format!("{head}a_total 1\n# TYPE a counter\n# EOF\n"),
                "a declaration behind",
            ),
            ("# TYPE a counter\na_total 1\n# EOF\n", "no type or no help"),
            ("# HELP a say \"A\"\n# EOF\n", "a quote that is not"),
            (
                "# HELP h H\n# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 1\nh_count 1\n# EOF\n",
                "buckets",
            ),
        ] {
            let error = parse(text, Exposition::OpenMetrics).expect_err(text);
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
