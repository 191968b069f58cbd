//! `cargo xtask build-ebpf`: the kernel object, for `proxy/build.rs` to embed.
//!
//! Rust's BPF target comes without a prebuilt `core` from rustup. Two ways lead around
//! that, and this takes the first that is open:
//! 1. a compiler with a prebuilt one: Debian's `rustc-web` with `libstd-rust-web-dev-bpf`;
//! 2. a compiler with the library's sources (`rust-src`), built along by `-Z build-std=core`.
//!
//! cargo is called directly: aya-build insists on rustup's compiler where rustup exists.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};

mod linker;
mod packages;
mod toolchain;

use packages::Install;
use toolchain::{Core, Toolchain};

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Say what is missing instead of installing it.
    #[arg(long)]
    pub(crate) no_install: bool,
    /// Build the core library from its sources, even where a prebuilt one exists.
    #[arg(long)]
    pub(crate) build_std: bool,
}

/// Builds and returns where the object is.
pub(crate) fn run(options: &Options) -> Result<PathBuf> {
    let install = if options.no_install {
        Install::Never
    } else {
        Install::Missing
    };
    let toolchain = Toolchain::find_or_install(options.build_std, install)?;
    say(&format!("compiler: {toolchain}"));
    let linker = linker::find_or_install(&toolchain, install)?;
    say(&format!("linker: {}", linker.display()));
    let workspace = workspace();
    let target_dir = workspace.join("target/ebpf");
    let target = if cfg!(target_endian = "little") {
        "bpfel-unknown-none"
    } else {
        "bpfeb-unknown-none"
    };
    compile(&toolchain, &linker, &workspace, &target_dir, target)?;
    let built = target_dir.join(target).join("release/transparent-proxy-ebpf");
    let object = target_dir.join("transparent-proxy-ebpf");
    copy_if_changed(&built, &object)?;
    say(&format!("object: {}", object.display()));
    Ok(object)
}

fn compile(
    toolchain: &Toolchain,
    linker: &Path,
    workspace: &Path,
    target_dir: &Path,
    target: &str,
) -> Result<()> {
    let linker_variable = format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_"));
    let mut cargo = Command::new(&toolchain.cargo);
    cargo
        .current_dir(workspace.join("proxy-ebpf"))
        .args([
            "build",
            "--release",
            "--locked",
            "--package",
            "proxy-ebpf",
            "--target",
            target,
            "--target-dir",
        ])
        .arg(target_dir)
        .env("RUSTC", &toolchain.rustc)
        // The target is unstable, and so are some features that aya-ebpf uses.
        .env("RUSTC_BOOTSTRAP", "1")
        .env(linker_variable, linker)
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags());
    if toolchain.core == Core::Sources {
        cargo.args(["-Z", "build-std=core"]);
    }
    // What a surrounding `cargo run` or the user's shell set for the host.
    for variable in [
        "RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTUP_TOOLCHAIN",
        "CARGO_BUILD_TARGET",
    ] {
        cargo.env_remove(variable);
    }
    succeed(&mut cargo)
}

fn rustflags() -> String {
    let architecture = format!("--cfg=bpf_target_arch=\"{}\"", env::consts::ARCH);
    // Without `--btf` the object silently has no type information, which its maps need.
    [architecture.as_str(), "-Cdebuginfo=2", "-Clink-arg=--btf"].join("\u{1f}")
}

/// Keeps the time of an equal file, or cargo would build the proxy again.
fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let new = fs::read(from).with_context(|| format!("{} was built", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    fs::write(to, new).with_context(|| format!("{} is writable", to.display()))
}

fn workspace() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask
        .parent()
        .expect("xtask is a member of the workspace")
        .to_owned()
}

fn say(what: &str) {
    eprintln!("ebpf: {what}");
}

/// Runs a command whose output the user should see.
fn succeed(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_owned();
    let status = command
        .status()
        .with_context(|| format!("{} starts", program.display()))?;
    ensure!(status.success(), "{} failed: {status}", program.display());
    Ok(())
}

/// What a command prints, without the final newline; nothing if it fails or does not exist.
fn output_of(program: impl Into<OsString>, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program.into())
        .args(arguments)
        .env_remove("RUSTUP_TOOLCHAIN")
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    String::from_utf8(output.stdout)
        .ok()
        .map(|text| text.trim_end().to_owned())
}

fn unavailable(what: &str, remedy: &str) -> Result<()> {
    bail!("{what} is missing: {remedy}")
}
