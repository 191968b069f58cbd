//! The commands of a page of the documentation.

use super::cluster::repository;

/// Of a page like `docs/kubernetes/operations.md`, in their order, with lines that go on put together.
pub fn commands(page: &str) -> Vec<String> {
    let text =
        std::fs::read_to_string(repository().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
    let text = text.replace("\\\n", "");
    let mut in_block = false;
    let lines = text.lines().filter(|line| {
        let fence = line.starts_with("```");
        in_block ^= fence;
        in_block && !fence
    });
    let commands = lines.map(|line| line.strip_prefix("$ ").unwrap_or(line));
    let commands = commands.filter(|line| line.starts_with("kubectl "));
    commands.map(str::to_owned).collect()
}
