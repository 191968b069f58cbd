//! Which module of the proxy imports which. A cycle that is not in
//! [`ALLOWED`] fails: layers stay layers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// Cycles that are known and accepted, each as the sorted names of its modules.
const ALLOWED: &[&[&str]] = &[];

#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// Print the graph in Graphviz' language
    #[arg(long)]
    dot: bool,
}

type Graph = BTreeMap<String, BTreeSet<String>>;

pub(crate) fn run(options: &Options) -> Result<()> {
    let graph = graph_of(&workspace::root().join("proxy/src"))?;
    if options.dot {
        print_dot(&graph);
    } else {
        print_table(&graph);
    }
    check_cycles(&graph)
}

/// Says nothing unless there is a new cycle.
pub(crate) fn check() -> Result<()> {
    check_cycles(&graph_of(&workspace::root().join("proxy/src"))?)
}

fn check_cycles(graph: &Graph) -> Result<()> {
    let cycles = cycles(graph);
    for cycle in &cycles {
        eprintln!("cycle: {}", cycle.join(" <-> "));
    }
    let fresh = cycles
        .iter()
        .filter(|cycle| !ALLOWED.iter().any(|allowed| allowed == *cycle))
        .count();
    if fresh > 0 {
        bail!("{fresh} import cycle(s) between modules; see ARCHITECTURE.md, \"Who imports whom\"");
    }
    Ok(())
}

fn print_table(graph: &Graph) {
    for (module, imports) in graph {
        let imports: Vec<&str> = imports.iter().map(String::as_str).collect();
        println!("{module:22} -> {}", imports.join(", "));
    }
}

fn print_dot(graph: &Graph) {
    println!("digraph proxy {{");
    for (module, imports) in graph {
        for import in imports {
            println!("  {module} -> {import};");
        }
    }
    println!("}}");
}

fn graph_of(source: &Path) -> Result<Graph> {
    let files = rust_files(source)?;
    let modules: BTreeSet<String> = files
        .iter()
        .filter_map(|file| path_of(source, file).into_iter().next())
        .collect();
    let mut graph: Graph = modules
        .iter()
        .map(|module| (module.clone(), BTreeSet::new()))
        .collect();
    for file in &files {
        let here = path_of(source, file);
        let Some(module) = here.first() else { continue };
        let text = fs::read_to_string(file).with_context(|| format!("{} can be read", file.display()))?;
        let imports = imports(production_part(&text), &here);
        let known = imports
            .into_iter()
            .filter(|import| import != module && modules.contains(import));
        graph.entry(module.clone()).or_default().extend(known);
    }
    Ok(graph)
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("{} can be listed", folder.display()))? {
        let path = entry.context("an entry can be read")?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test_code(&path) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn is_test_code(path: &Path) -> bool {
    path.file_stem()
        .is_some_and(|stem| stem == "tests" || stem == "testing")
        || path
            .components()
            .any(|part| part.as_os_str() == "testing" || part.as_os_str() == "tests")
}

/// `src/resolve/source.rs` is `[resolve, source]`; the crate's roots are `[]`.
fn path_of(source: &Path, file: &Path) -> Vec<String> {
    let inside = file
        .strip_prefix(source)
        .expect("files were found below the source folder")
        .with_extension("");
    let parts: Vec<String> = inside
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    match parts.as_slice() {
        [root] if root == "lib" || root == "main" => Vec::new(),
        _ => parts,
    }
}

/// Inline tests stand at the end of a file and may use whatever they like.
fn production_part(text: &str) -> &str {
    let tests = text
        .find("#[cfg(test)]\nmod ")
        .or_else(|| text.find("#[cfg(all(test"));
    &text[..tests.unwrap_or(text.len())]
}

/// The top-level modules that a file names by `crate::` or by climbing with `super::`.
fn imports(text: &str, here: &[String]) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n");
    let climb = "super::".repeat(here.len());
    let mut found = BTreeSet::new();
    for prefix in ["crate::", climb.as_str()] {
        for (at, _) in code.match_indices(prefix) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
                continue;
            }
            found.extend(first_names(&code[at + prefix.len()..]));
        }
    }
    found
}

/// `accept::Limits` -> accept; `{accept::Limits, relay}` -> accept, relay.
fn first_names(path: &str) -> Vec<String> {
    let Some(group) = path.strip_prefix('{') else {
        return vec![name(path)];
    };
    let mut depth = 0;
    let mut names = vec![name(group.trim_start())];
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(name(group[at + 1..].trim_start())),
            _ => {}
        }
    }
    names
}

fn name(path: &str) -> String {
    path.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

/// Groups of modules that reach each other, sorted.
fn cycles(graph: &Graph) -> Vec<Vec<&str>> {
    let reach: BTreeMap<&str, BTreeSet<&str>> = graph
        .keys()
        .map(|module| (module.as_str(), reachable(graph, module)))
        .collect();
    let mutual = |a: &str, b: &str| reach[a].contains(b) && reach[b].contains(a);
    let mut seen = BTreeSet::new();
    let mut cycles = Vec::new();
    for &module in reach.keys() {
        let group: Vec<&str> = reach
            .keys()
            .copied()
            .filter(|other| mutual(module, other))
            .collect();
        if group.len() > 1 && seen.insert(group.clone()) {
            cycles.push(group);
        }
    }
    cycles
}

fn reachable<'graph>(graph: &'graph Graph, from: &str) -> BTreeSet<&'graph str> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&str> = graph[from].iter().map(String::as_str).collect();
    while let Some(module) = open.pop() {
        let (module, imports) = graph.get_key_value(module).expect("imports are modules");
        if reached.insert(module.as_str()) {
            open.extend(imports.iter().map(String::as_str));
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(path: &str) -> Vec<String> {
        path.split("::").map(str::to_owned).collect()
    }

    fn found(text: &str, module: &str) -> Vec<String> {
        imports(text, &here(module)).into_iter().collect()
    }

    #[test]
    fn every_way_to_name_a_module_counts() {
        let text = "use crate::connect::{Dialer, Upstream};\nfn f(x: crate::resolve::Route) {}\n\
                    pub(crate) use crate::{accept::{self, Limits}, relay};\n";
        assert_eq!(found(text, "flow"), ["accept", "connect", "relay", "resolve"]);
    }

    #[test]
    fn climbing_out_of_a_module_counts_and_staying_inside_does_not() {
        assert_eq!(found("use super::error::Error;", "flow"), ["error"]);
        assert_eq!(
            found("use super::cache::Cache;", "resolve::tenant"),
            Vec::<String>::new()
        );
        assert_eq!(
            found("use super::super::secret::Secret;", "resolve::tenant"),
            ["secret"]
        );
    }

    #[test]
    fn comments_and_visibility_do_not_count() {
        assert_eq!(
            found(
                "// crate::app\npub(crate) fn f() {}\n/// [`crate::error`]\n",
                "relay"
            ),
            Vec::<String>::new()
        );
    }

    #[test]
    fn inline_tests_do_not_count() {
        assert_eq!(
            production_part("a\n#[cfg(test)]\nmod tests { use crate::app; }"),
            "a\n"
        );
    }

    #[test]
    fn modules_that_reach_each_other_are_one_cycle() {
        let edges = [
            ("a", vec!["b"]),
            ("b", vec!["c"]),
            ("c", vec!["a"]),
            ("d", vec!["a"]),
        ];
        let graph: Graph = edges
            .into_iter()
            .map(|(from, to)| (from.to_owned(), to.into_iter().map(str::to_owned).collect()))
            .collect();
        assert_eq!(cycles(&graph), [["a", "b", "c"]]);
    }

    #[test]
    fn layers_have_no_cycle() {
        let graph = Graph::from([
            ("flow".to_owned(), BTreeSet::from(["accept".to_owned()])),
            ("accept".to_owned(), BTreeSet::new()),
        ]);
        assert!(cycles(&graph).is_empty());
    }
}
