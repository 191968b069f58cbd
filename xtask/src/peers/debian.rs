//! Debian's packages: unpacked privately (nothing starts, nothing is
//! configured), or installed where a package has no service.

use std::env::consts::ARCH;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

use crate::shell::{self, as_root, output};
use crate::workspace;

/// Others may be installing too: wait for their lock instead of failing.
const WAIT_FOR_LOCK: [&str; 2] = ["-o", "DPkg::Lock::Timeout=300"];

/// Where [`unpack`] puts the starter of a package's program.
pub(crate) fn unpacked(package: &str, program: &str) -> PathBuf {
    let name = Path::new(program).file_name().expect("a program has a name");
    folder(package).join("bin").join(name)
}

/// Downloads a package with what it needs and this machine lacks, and unpacks
/// all of it below the cache.
pub(crate) fn unpack(package: &str, program: &str) -> Result<PathBuf> {
    need_apt(package)?;
    let folder = folder(package);
    if !folder.join("root").join(program).exists() {
        println!(
            "    unpacks Debian's {package} into {} (no service is started)",
            folder.display()
        );
        fill(&folder, package)?;
    }
    write_starter(&folder, program)
}

pub(crate) fn install(package: &str, program: &str) -> Result<PathBuf> {
    need_apt(package)?;
    if !shell::can_be_root() {
        bail!("{package} can only be installed by root: apt-get install {package}");
    }
    fresh_lists(package)?;
    println!("    installs Debian's {package} (apt-get install, as root)");
    let mut command = as_root("apt-get");
    command
        .args(WAIT_FOR_LOCK)
        .args(["install", "-y", "--no-install-recommends", package]);
    output(command.env("DEBIAN_FRONTEND", "noninteractive"))?;
    shell::find(program).with_context(|| format!("{package} brought no {program}"))
}

/// The unpacked tree of a package.
pub(crate) fn root(package: &str) -> PathBuf {
    folder(package).join("root")
}

fn folder(package: &str) -> PathBuf {
    workspace::cache()
        .join("peers")
        .join(format!("{}-{package}", release()))
}

/// Like `debian12`: packages of another release would not fit the system's libraries.
fn release() -> &'static str {
    static RELEASE: OnceLock<String> = OnceLock::new();
    RELEASE.get_or_init(|| {
        let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let field = |name: &str| {
            let value = text
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap_or_default();
            value.trim_matches('"').to_owned()
        };
        format!("{}{}", field("ID="), field("VERSION_ID="))
    })
}

fn need_apt(package: &str) -> Result<()> {
    if shell::find("apt-get").is_none() || shell::find("dpkg").is_none() {
        bail!("it is not installed and this machine has no apt-get to fetch {package} with");
    }
    Ok(())
}

/// Fresh machines have no package lists yet, and old lists name files that are gone.
fn fresh_lists(package: &str) -> Result<()> {
    let known = output(Command::new("apt-cache").args(["policy", package])).unwrap_or_default();
    if known.contains("Candidate:") && !known.contains("Candidate: (none)") {
        return Ok(());
    }
    update_lists()
}

fn update_lists() -> Result<()> {
    if !shell::can_be_root() {
        bail!("the package lists are missing or old, and only root can update them: apt-get update");
    }
    println!("    updates the package lists (apt-get update, as root)");
    output(as_root("apt-get").args(WAIT_FOR_LOCK).arg("update")).map(drop)
}

fn fill(folder: &Path, package: &str) -> Result<()> {
    fresh_lists(package)?;
    let parent = folder.parent().context("the cache has a parent")?;
    fs::create_dir_all(parent).with_context(|| format!("{} can be made", parent.display()))?;
    let work = tempfile::tempdir_in(parent).context("a folder for the download can be made")?;
    if download(work.path(), package).is_err() {
        update_lists()?;
        download(work.path(), package)?;
    }
    let root = work.path().join("root");
    for archive in archives(work.path())? {
        output(Command::new("dpkg").arg("-x").arg(archive).arg(&root))?;
    }
    // Complete or not there at all: a run that was interrupted leaves no half of it.
    fs::create_dir_all(folder).context("the folder can be made")?;
    fs::rename(&root, folder.join("root")).context("the unpacked tree can be moved into place")
}

fn download(into: &Path, package: &str) -> Result<()> {
    let plan = output(Command::new("apt-get").args(["-o", "Debug::NoLocking=1"]).args([
        "install",
        "--print-uris",
        "--yes",
        "--no-install-recommends",
        package,
    ]))?;
    let mut names = planned_packages(&plan);
    if names.is_empty() {
        names.push(package.to_owned());
    }
    output(
        Command::new("apt-get")
            .arg("download")
            .args(&names)
            .current_dir(into),
    )
    .map(drop)
}

/// `'http://…/liblua5.3-0_5.3.6-2_amd64.deb' liblua5.3-0_5.3.6-2_amd64.deb 122984 MD5Sum:…`
fn planned_packages(plan: &str) -> Vec<String> {
    let files = plan
        .lines()
        .filter(|line| line.starts_with('\''))
        .filter_map(|line| line.split(' ').nth(1));
    files
        .filter_map(|file| file.split('_').next())
        .map(str::to_owned)
        .collect()
}

fn archives(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).context("the download can be listed")?;
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(files
        .filter(|file| file.extension().is_some_and(|extension| extension == "deb"))
        .collect())
}

/// A starter that lets the program find the libraries unpacked beside it. It
/// `exec`s, so the process is the program.
fn write_starter(folder: &Path, program: &str) -> Result<PathBuf> {
    let root = folder.join("root");
    let starter = unpacked_in(folder, program);
    fs::create_dir_all(folder.join("bin")).context("the folder of starters can be made")?;
    let script = format!(
        "#!/bin/sh\nexport LD_LIBRARY_PATH='{root}/usr/lib/{ARCH}-linux-gnu:{root}/lib/{ARCH}-linux-gnu'\n\
         exec '{root}/{program}' \"$@\"\n",
        root = root.display(),
    );
    fs::write(&starter, script).with_context(|| format!("{} can be written", starter.display()))?;
    fs::set_permissions(&starter, fs::Permissions::from_mode(0o755))
        .context("a starter can be executable")?;
    Ok(starter)
}

fn unpacked_in(folder: &Path, program: &str) -> PathBuf {
    folder
        .join("bin")
        .join(Path::new(program).file_name().expect("a program has a name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_of_apt_names_packages() {
        let plan = "Reading package lists...\n\
            'http://mirror.test/l/lua5.3/liblua5.3-0_5.3.6-2_amd64.deb' liblua5.3-0_5.3.6-2_amd64.deb 122984 MD5Sum:6\n\
            'http://mirror.test/w/wrk_4.1.0-3%2bb2_amd64.deb' wrk_4.1.0-3+b2_amd64.deb 43340 MD5Sum:a\n";
        assert_eq!(planned_packages(plan), ["liblua5.3-0", "wrk"]);
    }

    #[test]
    fn nothing_planned_names_nothing() {
        assert!(planned_packages("0 upgraded, 0 newly installed").is_empty());
    }
}
