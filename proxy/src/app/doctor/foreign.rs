//! Programs of others on the same hooks: who they are, and whether they let ours live.

use std::path::Path;

use super::Check;
use crate::datapath::foreign::{self, AttachedProgram, Mode};

const NAME: &str = "programs of others";

/// Somebody whose programs are known by their names, which the kernel cuts after 15 letters.
struct Known {
    prefix: &'static str,
    is: &'static str,
}

const KNOWN: [Known; 3] = [
    Known {
        prefix: "cil_sock",
        is: "Cilium's socket load balancer",
    },
    Known {
        prefix: "calico_connect",
        is: "Calico's connect-time load balancer",
    },
    Known {
        prefix: "tproxy_",
        is: "a transparent-proxy",
    },
];

/// `remedy` is for those who want their hook for themselves.
pub(super) fn check(place: &Path, remedy: &str) -> Check {
    match foreign::programs_on(place) {
        Err(error) => Check::error(NAME, &error.into()),
        Ok(programs) => judge(
            &std::fs::canonicalize(place).unwrap_or_default(),
            &programs,
            remedy,
        ),
    }
}

fn judge(place: &Path, programs: &[AttachedProgram], remedy: &str) -> Check {
    if programs.is_empty() {
        return Check::ok(NAME, "none on the way");
    }
    let list = programs.iter().map(describe).collect::<Vec<_>>().join("; ");
    if programs.iter().any(|program| program.mode != Mode::Multi) {
        return Check::failed(
            NAME,
            format!("{list}; not all of them share their hook, so ours is not attached"),
            remedy,
        );
    }
    let nameless = programs.iter().any(|program| program.name.is_none());
    let mut detail = format!("{list}; they share their hooks");
    // https://docs.kernel.org/bpf/prog_cgroup_sockopt.html: from the child to its ancestors.
    if programs
        .iter()
        .any(|program| program.hook.name().starts_with("connect") && program.cgroup == place)
    {
        detail += "; of those on the same cgroup whoever came first is asked first";
    }
    if nameless {
        detail +=
            "; the kernel tells names to CAP_SYS_ADMIN alone: `bpftool cgroup tree` on the node shows them";
    }
    Check::ok(NAME, detail)
}

fn describe(program: &AttachedProgram) -> String {
    let name = program
        .name
        .clone()
        .unwrap_or_else(|| format!("number {}", program.id));
    let mode = match program.mode {
        Mode::Multi => "",
        Mode::Override => " (to be overridden)",
        Mode::Exclusive => " (exclusive)",
    };
    let known = KNOWN.iter().find(|known| name.starts_with(known.prefix));
    let known = known.map_or_else(String::new, |known| format!(", {},", known.is));
    format!(
        "{name}{known} on {} of {}{mode}",
        program.hook.name(),
        program.cgroup.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::foreign::Hook;

    fn program(name: Option<&str>, mode: Mode) -> AttachedProgram {
        AttachedProgram {
            cgroup: "/sys/fs/cgroup".into(),
            hook: Hook::Connect4,
            id: 7,
            name: name.map(str::to_owned),
            mode,
        }
    }

    fn told(programs: &[AttachedProgram]) -> String {
        let check = judge(Path::new("/sys/fs/cgroup/kubepods"), programs, "do something");
        format!("{:?}: {}", check.state, check.detail)
    }

    #[test]
    fn those_who_share_are_named_and_known_ones_explained() {
        let lines = [
            told(&[]),
            told(&[program(Some("somebody"), Mode::Multi)]),
            told(&[program(Some("cil_sock4_conne"), Mode::Multi)]),
            told(&[
                program(Some("calico_connect_"), Mode::Multi),
                program(Some("tproxy_connect4"), Mode::Multi),
            ]),
            told(&[program(None, Mode::Multi)]),
            told(&[AttachedProgram {
                cgroup: "/sys/fs/cgroup/kubepods".into(),
                ..program(Some("tproxy_connect4"), Mode::Multi)
            }]),
        ];
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn those_who_do_not_share_are_in_the_way() {
        for (mode, word) in [
            (Mode::Exclusive, "(exclusive)"),
            (Mode::Override, "(to be overridden)"),
        ] {
            let told = told(&[program(Some("somebody"), mode), program(None, Mode::Multi)]);
            assert!(told.starts_with("Failed: ") && told.contains(word), "{told}");
        }
    }
}
