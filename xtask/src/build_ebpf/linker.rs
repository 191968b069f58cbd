//! bpf-linker: from the path, from the cache, or built into the cache.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::packages::{self, Install};
use super::toolchain::Toolchain;
use super::{output_of, say, succeed, unavailable};

/// The version that this repository is built and tested with.
const VERSION: &str = "0.13.0";

pub(crate) fn find_or_install(toolchain: &Toolchain, install: Install) -> Result<PathBuf> {
    let cache = cache_directory(toolchain)?;
    let cached = cache.join("bin/bpf-linker");
    if let Some(found) = on_path()
        .into_iter()
        .chain([cached.clone()])
        .find(|path| is_right_version(path))
    {
        return Ok(found);
    }
    if cached.is_file() {
        // Built on this machine or restored by CI, but its shared library is not here.
        let library = format!("libllvm{}", toolchain.llvm_major());
        packages::install(&[&library], "the library that bpf-linker uses", install)?;
        if is_right_version(&cached) {
            return Ok(cached);
        }
    }
    build(toolchain, &cache, install)?;
    Ok(cached)
}

/// The linker reads the compiler's bitcode, so the LLVM version is part of the key.
fn cache_directory(toolchain: &Toolchain) -> Result<PathBuf> {
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(home);
    let key = format!("bpf-linker-{VERSION}-llvm-{}", toolchain.llvm);
    Ok(cache
        .context("HOME or XDG_CACHE_HOME is set")?
        .join("transparent-proxy/tools")
        .join(key))
}

fn on_path() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|directory| directory.join("bpf-linker"))
        .find(|path| path.is_file())
}

fn is_right_version(linker: &Path) -> bool {
    output_of(linker, &["--version"]).is_some_and(|said| said.ends_with(VERSION))
}

fn build(toolchain: &Toolchain, cache: &Path, install: Install) -> Result<()> {
    let major = toolchain.llvm_major();
    let prefix = llvm_prefix(toolchain, install)?;
    if install == Install::Never {
        return unavailable(
            &format!("bpf-linker {VERSION}"),
            &format!(
                "run `LLVM_PREFIX={prefix} cargo install bpf-linker --version {VERSION} --locked \
                 --no-default-features --features llvm-{major}`"
            ),
        );
    }
    say(&format!(
        "building bpf-linker {VERSION} into {}: once, about two minutes",
        cache.display()
    ));
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args([
            "install",
            "bpf-linker",
            "--version",
            VERSION,
            "--locked",
            "--no-default-features",
            "--quiet",
        ])
        .args(["--features", &format!("llvm-{major}"), "--root"])
        .arg(cache)
        .env("LLVM_PREFIX", prefix)
        // What a surrounding `cargo run` set is meant for this repository.
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS");
    succeed(&mut cargo)
}

/// Where the development files of the compiler's LLVM version are.
fn llvm_prefix(toolchain: &Toolchain, install: Install) -> Result<String> {
    let major = toolchain.llvm_major();
    let find = || output_of(format!("llvm-config-{major}"), &["--prefix"]);
    if let Some(prefix) = find() {
        return Ok(prefix);
    }
    let (llvm, polly) = (format!("llvm-{major}-dev"), format!("libpolly-{major}-dev"));
    let needed = [llvm.as_str(), polly.as_str(), "libzstd-dev", "zlib1g-dev"];
    packages::install(&needed, "the LLVM that bpf-linker is built with", install)?;
    find().with_context(|| format!("the package {llvm} brings llvm-config-{major}"))
}
