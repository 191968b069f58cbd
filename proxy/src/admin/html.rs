//! Pages for people, without scripts and without anything from elsewhere.

use std::fmt::{self, Display, Write};

const STYLE: &str = "body{font-family:sans-serif;margin:2em}table{border-collapse:collapse}\
     td,th{border:1px solid #bbb;padding:.3em .6em;text-align:left}\
     .ok{background:#d6f5d6}.warning{background:#ffefc2}.attention{background:#fdd}";

/// The colour of a row or of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    None,
    Ok,
    Warning,
    Attention,
}

impl Mark {
    /// An attribute of HTML, with a blank before it.
    fn class(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Ok => " class=\"ok\"",
            Self::Warning => " class=\"warning\"",
            Self::Attention => " class=\"attention\"",
        }
    }
}

/// A page that grows. Writing to a `String` cannot fail.
pub(crate) struct Document(String);

impl Document {
    pub(crate) fn new(title: &str) -> Self {
        let title = Escaped(title);
        Self(format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>transparent-proxy: {title}</title>\
             <style>{STYLE}</style><h1>{title}</h1>"
        ))
    }

    /// `content` is HTML already.
    pub(crate) fn paragraph(&mut self, content: fmt::Arguments<'_>) {
        let _ = write!(self.0, "<p>{content}</p>");
    }

    pub(crate) fn heading(&mut self, text: &str) {
        let _ = write!(self.0, "<h2>{}</h2>", Escaped(text));
    }

    /// One line in a colour.
    pub(crate) fn marked(&mut self, mark: Mark, text: &str) {
        let _ = write!(self.0, "<p><b{}>{}</b></p>", mark.class(), Escaped(text));
    }

    pub(crate) fn table(&mut self, heads: &[&str], rows: impl Iterator<Item = (Mark, Vec<String>)>) {
        self.0.push_str("<table><tr>");
        for head in heads {
            let _ = write!(self.0, "<th>{}", Escaped(head));
        }
        for (mark, cells) in rows {
            let _ = write!(self.0, "<tr{}>", mark.class());
            for cell in cells {
                let _ = write!(self.0, "<td>{}", Escaped(&cell));
            }
        }
        self.0.push_str("</table><br>");
    }

    pub(crate) fn finish(mut self) -> String {
        self.0.push_str("</html>\n");
        self.0
    }
}

pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|char| match char {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            char => f.write_char(char),
        })
    }
}
