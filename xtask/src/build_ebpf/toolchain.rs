//! Which compiler can build for the BPF target.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::packages::{self, Install};
use super::{output_of, say, unavailable};

/// Where the `core` library for the target comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Core {
    Prebuilt,
    Sources,
}

#[derive(Debug)]
pub(crate) struct Toolchain {
    pub(crate) rustc: PathBuf,
    pub(crate) cargo: PathBuf,
    pub(crate) core: Core,
    /// `release` of `rustc -vV`.
    release: String,
    /// `LLVM version` of `rustc -vV`, such as `22.1.8`.
    pub(crate) llvm: String,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = match self.core {
            Core::Prebuilt => "with a core library for BPF",
            Core::Sources => "building the core library from its sources",
        };
        write!(
            f,
            "{} {} (LLVM {}), {core}",
            self.rustc.display(),
            self.release,
            self.llvm
        )
    }
}

/// Debian's and Ubuntu's package with a prebuilt core, and the compiler it belongs to.
const PACKAGES: [&str; 2] = ["rustc-web", "libstd-rust-web-dev-bpf"];

impl Toolchain {
    pub(crate) fn find_or_install(from_sources: bool, install: Install) -> Result<Self> {
        if let Some(found) = Self::find(from_sources) {
            return Ok(found);
        }
        provide(from_sources, install)?;
        Self::find(from_sources)
            .context("the packages that were just installed have a compiler for the BPF target")
    }

    fn find(from_sources: bool) -> Option<Self> {
        let compilers = candidates();
        let with = |core| compilers.iter().find_map(|rustc| Self::new(rustc, core));
        let prebuilt = if from_sources { None } else { with(Core::Prebuilt) };
        prebuilt.or_else(|| with(Core::Sources))
    }

    fn new(rustc: &Path, core: Core) -> Option<Self> {
        let sysroot = PathBuf::from(output_of(rustc, &["--print", "sysroot"])?);
        let library = match core {
            Core::Prebuilt => sysroot.join("lib/rustlib/bpfel-unknown-none/lib"),
            Core::Sources => sysroot.join("lib/rustlib/src/rust/library/core/src"),
        };
        if !library.is_dir() {
            return None;
        }
        let version = output_of(rustc, &["-vV"])?;
        let field = |name: &str| {
            version
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::to_owned)
        };
        let (release, llvm) = (field("release: ")?, field("LLVM version: ")?);
        Some(Self {
            rustc: rustc.to_owned(),
            cargo: cargo(&sysroot, core),
            core,
            release,
            llvm,
        })
    }

    /// `22` of `22.1.8`
    pub(crate) fn llvm_major(&self) -> &str {
        self.llvm.split('.').next().unwrap_or(&self.llvm)
    }
}

/// The distribution's compiler, then rustup's: the one in use, and nightly.
fn candidates() -> Vec<PathBuf> {
    let rustup = |toolchain: &str| output_of("rustup", &["which", "--toolchain", toolchain, "rustc"]);
    let found = [
        Some("/usr/bin/rustc".to_owned()),
        output_of("rustup", &["which", "rustc"]),
        rustup("nightly"),
    ];
    found
        .into_iter()
        .flatten()
        .map(PathBuf::from)
        .filter(|path| path.is_file())
        .collect()
}

/// `-Z build-std` is a matter between a compiler and its own cargo.
fn cargo(sysroot: &Path, core: Core) -> PathBuf {
    let own = sysroot.join("bin/cargo");
    match core {
        Core::Sources if own.is_file() => own,
        _ => std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from),
    }
}

fn provide(from_sources: bool, install: Install) -> Result<()> {
    if !from_sources && packages::available(&PACKAGES) {
        return packages::install(
            &PACKAGES,
            "a Rust compiler with the core library for BPF",
            install,
        );
    }
    if install == Install::Missing && output_of("rustup", &["--version"]).is_some() {
        say("installing with rustup: rust-src, to build the core library for BPF from");
        return super::succeed(std::process::Command::new("rustup").args(["component", "add", "rust-src"]));
    }
    unavailable(
        "a Rust compiler for the BPF target",
        "install Debian's rustc-web and libstd-rust-web-dev-bpf, or run `rustup component add rust-src`",
    )
}
