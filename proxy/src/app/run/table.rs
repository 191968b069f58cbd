//! The table of destinations that `run` prints when there is no CMD.

use std::fmt::Write as _;
use std::net::IpAddr;

/// One destination, without any secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub name: String,
    /// `None` if there never was a good version.
    pub served: Option<Served>,
    /// The file is broken now; what is served is its last good version.
    pub broken: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    pub virtual_ip: IpAddr,
    pub port: u16,
    /// `HTTP` or `TCP`
    pub kind: &'static str,
    pub target: String,
}

impl Row {
    /// What a user should know about it, if anything.
    pub fn attention(&self) -> Option<&'static str> {
        match (&self.served, self.broken) {
            (Some(_), false) => None,
            (Some(_), true) => Some("the file is broken, its last good version serves"),
            (None, _) => Some("not served, see the log"),
        }
    }

    fn colour(&self) -> &'static str {
        match (&self.served, self.broken) {
            (Some(_), false) => "32",
            (Some(_), true) => "33",
            (None, _) => "31",
        }
    }
}

const TITLES: [&str; 5] = ["NAME", "VIRTUAL IP", "PORT", "TYPE", "TARGET"];

/// The table as text. Names and targets come from files, so control characters are shown as `?`.
pub fn render(rows: &[Row], coloured: bool) -> String {
    if rows.is_empty() {
        return "no destinations yet\n".to_owned();
    }
    let cells: Vec<[String; 5]> = rows.iter().map(cells).collect();
    let widths = widths(&cells);
    let mut table = String::new();
    push_line(
        &mut table,
        &TITLES.map(str::to_owned),
        &widths,
        coloured.then_some("1"),
        "",
    );
    for (row, cells) in rows.iter().zip(&cells) {
        let colour = coloured.then_some(row.colour());
        let note = row.attention().map(|text| format!("  ({text})"));
        push_line(&mut table, cells, &widths, colour, &note.unwrap_or_default());
    }
    table
}

fn cells(row: &Row) -> [String; 5] {
    let name = printable(&row.name);
    let Some(served) = &row.served else {
        let [address, port, kind, target] = ["-"; 4].map(str::to_owned);
        return [name, address, port, kind, target];
    };
    [
        name,
        served.virtual_ip.to_string(),
        served.port.to_string(),
        served.kind.to_owned(),
        printable(&served.target),
    ]
}

fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

fn widths(cells: &[[String; 5]]) -> [usize; 5] {
    let mut widths = TITLES.map(str::len);
    for row in cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    widths
}

/// The first column carries the colour, so that the rest is easy to copy.
fn push_line(table: &mut String, cells: &[String; 5], widths: &[usize; 5], colour: Option<&str>, note: &str) {
    let [name, address, port, kind, target] = cells;
    let (start, end) = match colour {
        Some(colour) => (format!("\x1b[{colour}m"), "\x1b[0m"),
        None => (String::new(), ""),
    };
    let [w0, w1, w2, w3, _] = *widths;
    writeln!(
        table,
        "{start}{name:w0$}{end}  {address:w1$}  {port:>w2$}  {kind:w3$}  {target}{note}"
    )
    .expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, last: u8, kind: &'static str) -> Row {
        Row {
            name: name.into(),
            served: Some(Served {
                virtual_ip: [127, 66, 0, last].into(),
                port: if kind == "HTTP" { 80 } else { 20004 },
                kind,
                target: format!("https://{name}.example.com"),
            }),
            broken: false,
        }
    }

    #[test]
    fn columns_are_aligned_and_states_are_noted() {
        let rows = [
            row("my-dest", 1, "HTTP"),
            Row {
                broken: true,
                ..row("a-much-longer-name", 2, "TCP")
            },
            Row {
                broken: true,
                served: None,
                ..row("x", 3, "HTTP")
            },
        ];
        insta::assert_snapshot!(render(&rows, false), @r"
        NAME                VIRTUAL IP   PORT  TYPE  TARGET
        my-dest             127.66.0.1     80  HTTP  https://my-dest.example.com
        a-much-longer-name  127.66.0.2  20004  TCP   https://a-much-longer-name.example.com  (the file is broken, its last good version serves)
        x                   -               -  -     -  (not served, see the log)
        ");
    }

    #[test]
    fn colours_only_appear_when_asked_for() {
        let rows = [row("my-dest", 1, "HTTP")];
        assert!(!render(&rows, false).contains('\x1b'));
        assert!(render(&rows, true).contains("\x1b[32mmy-dest\x1b[0m"));
    }

    #[test]
    fn control_characters_of_a_file_do_not_reach_the_terminal() {
        let rows = [row("a\x1b[2Jb", 1, "HTTP")];
        assert!(!render(&rows, false).contains('\x1b'));
    }

    #[test]
    fn an_empty_table_says_so() {
        assert_eq!(render(&[], false), "no destinations yet\n");
    }
}
