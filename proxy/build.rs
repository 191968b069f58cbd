//! Makes the eBPF programs, built by `cargo xtask build-ebpf`, part of the binary.
//!
//! They need another compiler target, so they are not built from here: a plain
//! `cargo check` must work on a machine that has none of the tools.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let workspace = manifest.parent().expect("the package is a member of a workspace");
    let object = env::var_os("TRANSPARENT_PROXY_EBPF").map_or_else(
        || workspace.join("target/ebpf/transparent-proxy-ebpf"),
        PathBuf::from,
    );
    println!("cargo:rerun-if-env-changed=TRANSPARENT_PROXY_EBPF");
    println!("cargo:rerun-if-changed={}", object.display());
    println!("cargo:rerun-if-changed=build.rs");
    embed(&object);
}

/// An empty file stands for "none": it becomes a clear error when the programs are needed.
fn embed(object: &Path) {
    let programs = fs::read(object).unwrap_or_else(|_| {
        println!(
            "cargo:warning=built without the eBPF programs: run `cargo xtask build-ebpf` and build again"
        );
        Vec::new()
    });
    let embedded = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("ebpf");
    // A new time alone would have the whole crate compiled again.
    if fs::read(&embedded).is_ok_and(|old| old == programs) {
        return;
    }
    fs::write(&embedded, programs).expect("OUT_DIR is writable");
}
