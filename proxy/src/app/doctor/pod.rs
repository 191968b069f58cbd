//! What a role on Kubernetes needs, looked at from inside of its pod.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use super::{Check, api_server, checks, node};
use crate::cli::{Doctor, Part};
use crate::config::kubernetes::{Error, File, Read};

/// What is to run here: as was said, else what this container runs.
pub(super) fn part(arguments: &Doctor) -> Part {
    let in_pod = arguments.namespace.is_some();
    arguments.role.unwrap_or_else(|| {
        if in_pod {
            of_first_process(&fs::read("/proc/1/cmdline").unwrap_or_default())
        } else {
            Part::Run
        }
    })
}

/// The first process of a container is the role; its words end with a zero each.
fn of_first_process(command_line: &[u8]) -> Part {
    let mut words = command_line.split(|byte| *byte == 0).skip(1);
    match words.next() {
        Some(b"manager") => Part::Manager,
        Some(b"healthcheck") => Part::Healthcheck,
        _ if words.any(|word| word == b"--fallback") => Part::Fallback,
        _ => Part::Agent,
    }
}

pub(super) fn all(part: Part, arguments: &Doctor) -> anyhow::Result<Vec<Check>> {
    let mut all = Vec::new();
    let (check, settings) = settings(Read::file(&arguments.config), &arguments.config);
    all.push(check);
    match part {
        Part::Agent if settings.ebpf.enabled => all.extend(node::all(&settings.ebpf.cgroup_root)?),
        Part::Agent | Part::Fallback => {
            all.push(Check::ok(
                "hook",
                "it is off here: connections arrive by the Services",
            ));
        }
        Part::Manager | Part::Healthcheck | Part::Run => {}
    }
    if matches!(part, Part::Agent | Part::Fallback) {
        all.extend([addresses(&arguments.ips), checks::ipv6()]);
    }
    all.extend(api_server::all(part, arguments.namespace.as_deref(), &settings)?);
    Ok(all)
}

fn settings(read: Result<Read, Error>, path: &Path) -> (Check, File) {
    const NAME: &str = "settings";
    let path = path.display();
    match read {
        Ok(Read { settings, unknown }) if unknown.is_empty() => {
            (Check::ok(NAME, format!("{path} is understood")), settings)
        }
        Ok(Read { settings, unknown }) => {
            let detail = format!("in {path}, this version ignores {}", unknown.join(", "));
            let remedy = "let image and chart be of the same version";
            (Check::warning(NAME, detail, remedy), settings)
        }
        Err(error) => (Check::error(NAME, &error.into()), File::default()),
    }
}

fn addresses(ips: &[IpAddr]) -> Check {
    const NAME: &str = "addresses of this pod";
    let list = || ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
    match (ips.iter().any(IpAddr::is_ipv4), ips.iter().any(IpAddr::is_ipv6)) {
        (true, true) => Check::ok(NAME, format!("{}: both families", list())),
        (true, false) => Check::ok(NAME, format!("{}: IPv4 alone is served", list())),
        (false, true) => Check::ok(NAME, format!("{}: IPv6 alone is served", list())),
        (false, false) => Check::failed(
            NAME,
            "POD_IPS is empty",
            "let the downward API give the variable the field status.podIPs, as the chart does",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn the_first_process_says_which_role_it_is() {
        for (command_line, part) in [
            ("transparent-proxy\0agent\0", Part::Agent),
            ("/usr/bin/transparent-proxy\0agent\0--fallback\0", Part::Fallback),
            ("transparent-proxy\0manager\0", Part::Manager),
            ("transparent-proxy\0healthcheck\0", Part::Healthcheck),
            ("/sbin/init\0", Part::Agent),
            ("", Part::Agent),
        ] {
            assert_eq!(
                of_first_process(command_line.as_bytes()),
                part,
                "{command_line:?}"
            );
        }
    }

    #[test]
    fn both_families_are_told() {
        let told = |ips: &[&str]| {
            let ips: Vec<IpAddr> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
            addresses(&ips)
        };
        assert!(told(&["10.0.0.1", "fd00::1"]).detail.ends_with("both families"));
        assert!(told(&["10.0.0.1"]).detail.contains("IPv4 alone"));
        assert!(told(&["fd00::1"]).detail.contains("IPv6 alone"));
        assert_eq!(told(&[]).state, State::Failed);
    }
}
