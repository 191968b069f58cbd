//! What a program of this machine needs to run elsewhere.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The loader and the libraries, as ldd(1) finds them, also in these folders; nothing for a static program.
pub(super) fn of(program: &Path, folders: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let search = env::join_paths(folders).context("folders have no colons")?;
    let mut ldd = Command::new("ldd");
    let output = ldd.arg(program).env("LD_LIBRARY_PATH", search).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() || String::from_utf8_lossy(&output.stderr).contains("not a dynamic"),
        "ldd {}: {}",
        program.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    let missing: Vec<&str> = text.lines().filter(|line| line.contains("not found")).collect();
    ensure!(
        missing.is_empty(),
        "{}: {}",
        program.display(),
        missing.join(", ")
    );
    Ok(text.lines().filter_map(path).collect())
}

/// `libm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x0000…)` or `/lib64/ld-linux-x86-64.so.2 (0x0000…)`;
/// what the kernel provides has no path.
fn path(line: &str) -> Option<PathBuf> {
    line.split_whitespace()
        .find(|word| word.starts_with('/'))
        .map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_loader_have_paths() {
        let lines = [
            "\tlinux-vdso.so.1 (0x00007ffc1d1f2000)",
            "\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f0d7a2b1000)",
            "\t/lib64/ld-linux-x86-64.so.2 (0x00007f0d7a4a5000)",
            "\tstatically linked",
        ];
        let paths: Vec<PathBuf> = lines.into_iter().filter_map(path).collect();
        assert_eq!(
            paths,
            [
                PathBuf::from("/lib/x86_64-linux-gnu/libm.so.6"),
                PathBuf::from("/lib64/ld-linux-x86-64.so.2")
            ]
        );
    }
}
