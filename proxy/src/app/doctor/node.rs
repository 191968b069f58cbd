//! What the hook of an agent needs of its node.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit};

use super::kernel::{LimitOf, capabilities_check, memlock_check, version_check};
use super::{Check, checks, foreign};
use crate::datapath::cgroup::holds_this_process;
use crate::datapath::pods::{AttachPoint, attach_point};
use crate::datapath::{self, Datapath};

/// `root` is where the node's cgroup tree is mounted in this container.
pub(super) fn all(root: &Path) -> anyhow::Result<Vec<Check>> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("/proc cannot be read")?;
    let status = fs::read_to_string("/proc/self/status").context("/proc cannot be read")?;
    let (memlock, _) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    let mut all = vec![
        version_check(release.trim()),
        capabilities_check(&status),
        memlock_check(release.trim(), memlock, LimitOf::Runtime),
    ];
    let point = match attach_point(root) {
        Ok(point) => {
            all.push(tree(&point));
            Some(point)
        }
        Err(error) => {
            all.push(Check::error(TREE, &error.into()));
            None
        }
    };
    all.extend(hook(point.as_ref())?);
    Ok(all)
}

const TREE: &str = "cgroups of pods";

fn tree(point: &AttachPoint) -> Check {
    let path = point.path.display();
    if !point.is_kubepods {
        return Check::warning(
            TREE,
            format!("there is no `kubepods` below {path}, so the hook is for all processes of the node"),
            "mount the node's tree, as the chart does; where kubelets use other names, please report them",
        );
    }
    // https://kubernetes.io/docs/setup/production-environment/container-runtimes/#cgroup-drivers
    let driver = if point.path.extension().is_some_and(|end| end == "slice") {
        "systemd"
    } else {
        "cgroupfs"
    };
    Check::ok(TREE, format!("at {path}, made by the driver {driver}"))
}

/// Loads, looks who else is there, and lets the hook prove itself beside the agent's own.
fn hook(point: Option<&AttachPoint>) -> anyhow::Result<Vec<Check>> {
    const LOAD: &str = "eBPF programs";
    const SHARE: &str = "let their owner attach them with BPF_F_ALLOW_MULTI; until then connections take the detour \
                         of the Services";
    let mut all = Vec::new();
    let loaded = Datapath::load(&datapath::Options {
        origin_record: true,
        ..datapath::Options::default()
    });
    let mut datapath = match loaded {
        Ok(datapath) => datapath,
        Err(error) => return Ok(vec![Check::error(LOAD, &error.into())]),
    };
    all.push(Check::ok(LOAD, "the kernel accepts them"));
    let Some(point) = point else { return Ok(all) };
    let path = &point.path;
    all.push(foreign::check(path, SHARE));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    all.push(match runtime.block_on(prove(&mut datapath, point)) {
        Ok(()) => Check::ok(
            "hook",
            format!("connections of pods in {} are redirected", path.display()),
        ),
        Err(error) => Check::error("hook", &error),
    });
    Ok(all)
}

/// In a pod by this very process. On the node itself by one in a cgroup of its own, and not among
/// those of pods, which are the kubelet's.
async fn prove(datapath: &mut Datapath, point: &AttachPoint) -> anyhow::Result<()> {
    if holds_this_process(&point.path) {
        checks::prove_on(datapath, &point.path, None).await
    } else {
        checks::prove(datapath, &point.tree).await
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    fn told(path: &str, is_kubepods: bool) -> (State, String) {
        let check = tree(&AttachPoint {
            path: path.into(),
            tree: "/host/cgroup".into(),
            is_kubepods,
        });
        (check.state, check.detail)
    }

    #[test]
    fn the_driver_is_known_by_the_name() {
        for (path, driver) in [
            ("/host/cgroup/kubepods", "cgroupfs"),
            ("/host/cgroup/kubepods.slice", "systemd"),
            ("/host/cgroup/kubelet.slice/kubelet-kubepods.slice", "systemd"),
        ] {
            let (state, detail) = told(path, true);
            assert_eq!(state, State::Ok);
            assert!(detail.ends_with(driver), "{detail}");
        }
        assert_eq!(told("/host/cgroup", false).0, State::Warning);
    }
}
