//! The questions to this machine, in the order in which a start would fail.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit};

use super::kernel::{LimitOf, memlock_check, privileges_check, version_check};
use super::{Check, foreign};
use crate::app::run::hosts;
use crate::datapath::cgroup::{Mount, OwnCgroup};
use crate::datapath::self_test::SelfTest;
use crate::datapath::{self, Datapath};

pub(super) fn all() -> anyhow::Result<Vec<Check>> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("/proc cannot be read")?;
    let status = fs::read_to_string("/proc/self/status").context("/proc cannot be read")?;
    let (memlock, _) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    let mut checks = vec![
        version_check(release.trim()),
        privileges_check(&status),
        memlock_check(release.trim(), memlock, LimitOf::Shell),
    ];
    let place = cgroup_checks(&mut checks);
    hook_checks(place.as_deref(), &mut checks)?;
    checks.extend([ipv6(), hosts_file(), name_order(), mount_namespace()]);
    Ok(checks)
}

/// Where the tree is and whether a cgroup can be made; gives the place for one.
fn cgroup_checks(checks: &mut Vec<Check>) -> Option<PathBuf> {
    const NAME: &str = "cgroup v2";
    let mount = match Mount::find() {
        Ok(mount) => mount,
        Err(error) => {
            checks.push(Check::error(NAME, &error.into()));
            return None;
        }
    };
    let point = mount.mount_point.display();
    let beside_version_1 = fs::read_to_string("/proc/self/mountinfo")
        .unwrap_or_default()
        .contains(" - cgroup cgroup");
    checks.push(Check::ok(
        NAME,
        if beside_version_1 {
            format!("at {point}, beside version 1")
        } else {
            format!("at {point}")
        },
    ));
    Some(
        mount
            .own_cgroup()
            .ok()
            .filter(|path| path.is_dir())
            .unwrap_or(mount.mount_point),
    )
}

/// What helps against a program that wants its hook for itself.
const CHOOSE: &str =
    "let their owner attach them with BPF_F_ALLOW_MULTI, or choose a cgroup outside with --cgroup";

/// Loads, attaches to a cgroup that nobody is in where one can be made, and lets the hook prove itself.
fn hook_checks(place: Option<&Path>, checks: &mut Vec<Check>) -> anyhow::Result<()> {
    const LOAD: &str = "eBPF programs";
    let mut datapath = match Datapath::load(&datapath::Options::default()) {
        Ok(datapath) => datapath,
        Err(error) => {
            checks.push(Check::error(LOAD, &error.into()));
            return Ok(());
        }
    };
    checks.push(Check::ok(LOAD, "the kernel accepts them"));
    let Some(place) = place else { return Ok(()) };
    checks.push(foreign::check(place, CHOOSE));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    checks.push(match runtime.block_on(prove(&mut datapath, place)) {
        Ok(()) => Check::ok(
            "hook",
            format!("connections from cgroups in {} are redirected", place.display()),
        ),
        Err(error) => Check::error("hook", &error),
    });
    Ok(())
}

pub(super) async fn prove(datapath: &mut Datapath, place: &Path) -> anyhow::Result<()> {
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);
    let cgroup = match OwnCgroup::create(place, &format!("doctor-{}", std::process::id())) {
        // Whoever may make none still may hook the one that this process is in.
        Err(error) if error.is_forbidden() => return prove_on(datapath, place, None).await,
        cgroup => cgroup?,
    };
    prove_on(datapath, cgroup.path(), Some(cgroup.path())).await?;
    cgroup.remove(PATIENCE).await?;
    Ok(())
}

pub(super) async fn prove_on(
    datapath: &mut Datapath,
    cgroup: &Path,
    move_to: Option<&Path>,
) -> anyhow::Result<()> {
    datapath.attach(cgroup)?;
    SelfTest::new(datapath, move_to.map(Path::to_owned))
        .run_once()
        .await?;
    datapath.detach();
    Ok(())
}

pub(super) fn ipv6() -> Check {
    if datapath::ipv6_usable() {
        Check::ok("IPv6", "available")
    } else {
        Check::warning(
            "IPv6",
            "this kernel makes no IPv6 sockets",
            "nothing to do: applications here can only use IPv4 anyway",
        )
    }
}

fn hosts_file() -> Check {
    const NAME: &str = "names for a CMD";
    match fs::symlink_metadata(hosts::SYSTEM) {
        Ok(metadata) if metadata.is_symlink() && !Path::new(hosts::SYSTEM).exists() => Check::failed(
            NAME,
            format!("{} is a symbolic link to nothing", hosts::SYSTEM),
            "create the file that it names, or remove the link",
        ),
        Ok(_) => Check::ok(NAME, format!("{} can be replaced for CMD alone", hosts::SYSTEM)),
        Err(_) => Check::warning(
            NAME,
            format!(
                "{} does not exist: an empty one is made while a CMD runs",
                hosts::SYSTEM
            ),
            format!("run `touch {}`", hosts::SYSTEM),
        ),
    }
}

fn name_order() -> Check {
    const NAME: &str = "order of name services";
    let nsswitch = fs::read_to_string("/etc/nsswitch.conf").unwrap_or_default();
    let line = nsswitch
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("hosts:"))
        .map(str::trim);
    match line {
        Some(line) if !line.starts_with("files") => Check::warning(
            NAME,
            format!("`hosts: {line}` in /etc/nsswitch.conf does not ask `files` first"),
            "nothing to do for a CMD, which gets a copy that does; for --hosts-file put `files` first",
        ),
        Some(_) => Check::ok(NAME, "/etc/hosts is asked first"),
        None => Check::ok(NAME, "no order is configured; /etc/hosts is asked"),
    }
}

fn mount_namespace() -> Check {
    const NAME: &str = "mount namespaces";
    // In a thread of its own, which takes the namespace with it when it ends.
    let result = std::thread::spawn(|| unshare(CloneFlags::CLONE_NEWNS)).join();
    match result {
        Ok(Ok(())) => Check::ok(NAME, "allowed"),
        Ok(Err(error)) => Check::warning(
            NAME,
            format!("not allowed: {error}"),
            "a CMD takes CAP_SYS_ADMIN and a seccomp profile that allows unshare(2); --cgroup works without",
        ),
        Err(_) => Check::warning(NAME, "the question crashed", "please report this"),
    }
}
