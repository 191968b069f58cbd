//! The two text formats, and which of them a scraper gets.
//!
//! They differ in how counters and infos are declared, in the kinds that exist, and in the
//! last line: <https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md>,
//! <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>.

use std::fmt::Write as _;

/// A format in which metrics are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposition {
    OpenMetrics,
    /// Version 0.0.4 of Prometheus' own; browsers show it.
    Prometheus,
}

impl Exposition {
    /// What the field `Accept` likes better; `OpenMetrics` where both are as good.
    pub fn wanted_by(accept: &str) -> Self {
        let ranges: Vec<Range<'_>> = accept.split(',').filter_map(Range::read).collect();
        let weight = |of: Self| {
            let fitting = ranges
                .iter()
                .filter_map(|range| Some((range.fits(of)?, range.weight)));
            // The most precise range counts; the better one of two like it.
            fitting.max().map(|(_, weight)| weight)
        };
        let open_metrics = weight(Self::OpenMetrics);
        let prometheus = weight(Self::Prometheus);
        let is_browser = ranges.iter().any(|range| range.media_type == "text/html");
        if prometheus > open_metrics || (is_browser && prometheus == open_metrics) {
            Self::Prometheus
        } else {
            Self::OpenMetrics
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    fn media_type(self) -> (&'static str, &'static str) {
        match self {
            Self::OpenMetrics => ("application/openmetrics-text", "1.0.0"),
            Self::Prometheus => ("text/plain", "0.0.4"),
        }
    }

    /// Out of what the registry writes, which is `OpenMetrics` with a full stop behind every help.
    pub(super) fn rewrite(self, text: &str) -> String {
        let mut written = String::with_capacity(text.len());
        let mut help = None;
        for line in text.lines() {
            let words = line.strip_prefix("# ").and_then(|line| line.split_once(' '));
            let (keyword, rest) = words.unwrap_or_default();
            match keyword {
                // The kind, which comes next, decides about the name.
                "HELP" => help = rest.split_once(' '),
                "TYPE" => self.declare(&mut written, help.take(), rest),
                "UNIT" if self == Self::Prometheus => {}
                _ if line == "# EOF" && self == Self::Prometheus => {}
                _ => line_to(&mut written, format_args!("{line}")),
            }
        }
        written
    }

    fn declare(self, written: &mut String, help: Option<(&str, &str)>, rest: &str) {
        let (name, kind) = rest.split_once(' ').unwrap_or((rest, "unknown"));
        let (suffix, kind) = match (self, kind) {
            (Self::Prometheus, "counter") => ("_total", kind),
            (Self::Prometheus, "info") => ("_info", "gauge"),
            (Self::Prometheus, "unknown") => ("", "untyped"),
            _ => ("", kind),
        };
        if let Some((_, help)) = help {
            let help = help.strip_suffix('.').unwrap_or(help);
            let help = self.help(help);
            line_to(written, format_args!("# HELP {name}{suffix} {help}"));
        }
        line_to(written, format_args!("# TYPE {name}{suffix} {kind}"));
    }

    /// The registry escapes nothing; quotes are special to `OpenMetrics` alone.
    fn help(self, text: &str) -> String {
        let text = text.replace('\\', "\\\\");
        match self {
            Self::OpenMetrics => text.replace('"', "\\\""),
            Self::Prometheus => text,
        }
    }
}

fn line_to(written: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(written, "{line}");
}

/// One of the media ranges of `Accept` (RFC 9110, section 12.5.1).
struct Range<'a> {
    media_type: &'a str,
    version: Option<&'a str>,
    /// In thousandths; 0 is a refusal.
    weight: u16,
}

impl<'a> Range<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next().filter(|media_type| !media_type.is_empty())?;
        let mut range = Self {
            media_type,
            version: None,
            weight: 1000,
        };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name {
                "q" | "Q" => range.weight = weight(value)?,
                "version" => range.version = Some(value.trim_matches('"')),
                _ => {}
            }
        }
        (range.weight > 0).then_some(range)
    }

    /// How precisely it names the format, if it does.
    fn fits(&self, exposition: Exposition) -> Option<u8> {
        let (media_type, version) = exposition.media_type();
        let (group, _) = media_type.split_once('/')?;
        if self.media_type.eq_ignore_ascii_case(media_type) {
            let asked = self.version.is_none_or(|asked| asked == version);
            return asked.then_some(3);
        }
        match self.media_type.split_once('/')? {
            ("*", "*") => Some(1),
            (asked, "*") if asked.eq_ignore_ascii_case(group) => Some(2),
            _ => None,
        }
    }
}

fn weight(text: &str) -> Option<u16> {
    let weight: f64 = text.parse().ok()?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is within 0 and 1000"
    )]
    (0.0..=1.0)
        .contains(&weight)
        .then_some((weight * 1000.0).round() as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrapers_get_what_they_like_best() {
        use Exposition::{OpenMetrics, Prometheus};
        for (accept, wanted) in [
            ("", OpenMetrics),
            ("*/*", OpenMetrics),
            ("application/json", OpenMetrics),
            ("text/plain", Prometheus),
            ("text/*", Prometheus),
            ("text/plain;version=0.0.4;q=1,*/*;q=0.1", Prometheus),
            (
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                OpenMetrics,
            ),
            // This version is another one.
            (
                "application/openmetrics-text;version=0.0.1,text/plain;q=0.3",
                Prometheus,
            ),
            (
                "application/openmetrics-text;version=\"1.0.0\";q=0.2,text/plain;q=0.3",
                Prometheus,
            ),
            ("application/openmetrics-text;q=0,*/*", OpenMetrics),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
                 application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                 text/plain;version=1.0.0;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
                OpenMetrics,
            ),
            // A browser would save the other one to a file.
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
                Prometheus,
            ),
        ] {
            assert_eq!(Exposition::wanted_by(accept), wanted, "{accept}");
        }
    }

    #[test]
    fn declarations_are_those_of_the_format() {
        let text = "# HELP a All \"a\".\n# TYPE a counter\na_total 1\n# HELP b Both.\n# TYPE b info\nb_info{c=\"d\"} 1\n\
                    # HELP e_seconds E.\n# TYPE e_seconds gauge\n# UNIT e_seconds seconds\ne_seconds 2.5\n# EOF\n";
        insta::assert_snapshot!(Exposition::Prometheus.rewrite(text), @r#"
        # HELP a_total All "a"
        # TYPE a_total counter
        a_total 1
        # HELP b_info Both
        # TYPE b_info gauge
        b_info{c="d"} 1
        # HELP e_seconds E
        # TYPE e_seconds gauge
        e_seconds 2.5
        "#);
        insta::assert_snapshot!(Exposition::OpenMetrics.rewrite(text), @r#"
        # HELP a All \"a\"
        # TYPE a counter
        a_total 1
        # HELP b Both
        # TYPE b info
        b_info{c="d"} 1
        # HELP e_seconds E
        # TYPE e_seconds gauge
        # UNIT e_seconds seconds
        e_seconds 2.5
        # EOF
        "#);
    }
}
