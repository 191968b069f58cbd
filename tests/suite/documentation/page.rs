//! As much of Markdown as the pages use.

use std::fmt::Write as _;
use std::path::Path;

use super::{read, root};

/// In a line above a code block: the file that it is a copy of.
const QUOTED: &str = "<!-- quoted: ";

pub struct Page {
    /// From the root of the repository.
    pub path: String,
    pub text: String,
}

/// A fenced code block.
pub struct Block<'a> {
    /// The file that it is a copy of.
    pub quotes: Option<&'a str>,
    /// Of the opening fence, counted from 1.
    pub line: usize,
    pub content: String,
}

impl Block<'_> {
    /// Whether it differs from the file that it quotes.
    pub fn is_stale(&self) -> bool {
        self.quotes.is_some_and(|path| read(path) != self.content)
    }
}

impl Page {
    pub fn read(path: String) -> Self {
        Self {
            text: read(&path),
            path,
        }
    }

    pub fn blocks(&self) -> Vec<Block<'_>> {
        let mut blocks = Vec::new();
        let mut open: Option<Block<'_>> = None;
        let mut before = "";
        for (line, number) in self.text.lines().zip(1..) {
            if !line.starts_with("```") {
                if let Some(block) = &mut open {
                    writeln!(block.content, "{line}").unwrap();
                }
            } else if let Some(block) = open.take() {
                blocks.push(block);
            } else {
                open = Some(Block {
                    quotes: quoted(before),
                    line: number,
                    content: String::new(),
                });
            }
            before = line;
        }
        assert!(open.is_none(), "{}: a code block does not end", self.path);
        blocks
    }

    /// The text with the files as they are now in the blocks that quote them.
    pub fn requoted(&self) -> String {
        let mut text = String::new();
        let mut in_quote = false;
        let mut before = "";
        for line in self.text.lines() {
            let fence = line.starts_with("```");
            if !in_quote || fence {
                writeln!(text, "{line}").unwrap();
            }
            if fence {
                let quote = quoted(before).filter(|_| !in_quote);
                in_quote = quote.is_some();
                text.extend(quote.map(read));
            }
            before = line;
        }
        text
    }

    /// The lines outside of code blocks.
    pub fn prose(&self) -> impl Iterator<Item = &str> {
        let mut in_block = false;
        self.text.lines().filter(move |line| {
            let fence = line.starts_with("```");
            in_block ^= fence;
            !in_block && !fence
        })
    }

    /// What stands between backticks.
    pub fn code(&self) -> impl Iterator<Item = &str> {
        self.prose().flat_map(|line| line.split('`').skip(1).step_by(2))
    }

    /// Targets of links to files and headings of this repository.
    pub fn links(&self) -> Vec<&str> {
        let targets = self.prose().flat_map(|line| line.split("](").skip(1));
        let targets = targets.filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
        targets.filter(|target| !target.contains("://")).collect()
    }

    pub fn leads_somewhere(&self, link: &str) -> bool {
        let (file, heading) = link.split_once('#').unwrap_or((link, ""));
        let path = Path::new(&self.path).parent().unwrap().join(file);
        let path = if file.is_empty() {
            self.path.clone()
        } else {
            path.to_str().unwrap().to_owned()
        };
        if !root().join(&path).exists() {
            return false;
        }
        heading.is_empty()
            || Self::read(path)
                .prose()
                .any(|line| anchor(line).is_some_and(|name| name == heading))
    }
}

fn quoted(line: &str) -> Option<&str> {
    line.strip_prefix(QUOTED)?.strip_suffix(" -->")
}

/// Of a heading, as GitHub makes it.
fn anchor(line: &str) -> Option<String> {
    let title = line
        .strip_prefix('#')?
        .trim_start_matches('#')
        .strip_prefix(' ')?;
    let kept = title
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    Some(
        kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() })
            .collect(),
    )
}
