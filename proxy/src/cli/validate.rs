//! How the options of `run` fit together, and whether what they name exists.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use nix::unistd::{Uid, User};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::Run;
use crate::config;

/// Where destinations are looked for if nobody says where.
const DEFAULT_DESTINATIONS: &str = "destinations";

/// Addresses of 127/8 that machines use themselves: localhost, the two of systemd-resolved,
/// and the one that Debian gives to the machine's own name.
const USED_LOOPBACK: [Ipv4Addr; 4] = [
    Ipv4Addr::LOCALHOST,
    Ipv4Addr::new(127, 0, 0, 53),
    Ipv4Addr::new(127, 0, 0, 54),
    Ipv4Addr::new(127, 0, 1, 1),
];

/// The network whose addresses never leave the machine.
fn loopback_network() -> IpNet {
    IpNet::new(Ipv4Addr::new(127, 0, 0, 0).into(), 8).expect("8 is a length of IPv4 networks")
}

/// Why a command line is wrong although every single option is well-formed.
#[derive(Debug, thiserror::Error)]
pub enum Invalid {
    #[error(
        "there are no destinations: create the folder ./destinations, or say where they are with --destinations PATH"
    )]
    NoDestinations,
    #[error("--destinations {0}: no such file or folder")]
    DestinationsMissing(PathBuf),
    #[error("--destinations {0} is given twice")]
    DestinationsTwice(PathBuf),
    #[error(
        "--virtual-ips {0} is too small: it takes at least four addresses, the first and the last one stay unused"
    )]
    NetworkTooSmall(IpNet),
    #[error(
        "--virtual-ips {0} contains {1}, which this machine uses itself; choose another part of 127.0.0.0/8, as 127.66.0.0/16"
    )]
    NetworkInUse(IpNet, IpAddr),
    #[error(
        "--virtual-ips {0} lies outside of 127.0.0.0/8: connections to it could leave this machine; that is only allowed with both --cgroup and --listen"
    )]
    NetworkNotLoopback(IpNet),
    #[error("--virtual-ips {0} is no network of ordinary addresses; take a private one, as 10.200.0.0/16")]
    NetworkNotUnicast(IpNet),
    #[error(
        "--virtual-ips {0}: IPv6 has no loopback network, only ::1, so IPv6 virtual IPs need both --cgroup and --listen"
    )]
    Ipv6NeedsListen(IpNet),
    #[error("--virtual-ips {0} and --listen {1}: both have to be IPv4, or both IPv6")]
    FamiliesDiffer(IpNet, IpAddr),
    #[error("--listen {1} lies within --virtual-ips {0}: the proxy would redirect its own connections")]
    ListenIsVirtual(IpNet, IpAddr),
    #[error("--cgroup {0}: no such folder")]
    CgroupMissing(PathBuf),
    #[error(
        "--cgroup {0} is no cgroup of version 2 (it has no file cgroup.controllers); `transparent-proxy doctor` shows where that tree is mounted"
    )]
    NotCgroup2(PathBuf),
    #[error(
        "--cgroup serves processes that run already and CMD gets a cgroup of its own: leave one of the two out"
    )]
    CgroupAndCommand,
    #[error("--hosts-file {0}: the folder {1} does not exist")]
    HostsFolderMissing(PathBuf, PathBuf),
    #[error("--hosts-file {0} is a folder")]
    HostsFileIsFolder(PathBuf),
    #[error("--user only makes sense with a CMD: add `-- CMD`")]
    UserWithoutCommand,
    #[error("--user {0}: there is no such user")]
    UserUnknown(String),
    #[error("{} is no option of ours; if it is the CMD, write `--` before it: transparent-proxy run -- {}", .0.display(), .0.display())]
    Misplaced(OsString),
    #[error("after `--` a CMD is expected, but it is empty")]
    EmptyCommand,
    #[error("--retry-status only makes sense with --max-retries 1 or more")]
    StatusWithoutRetries,
    #[error("--additional-ca {file}: {problem}")]
    AdditionalCa { file: PathBuf, problem: CaProblem },
}

/// What is wrong with a file of certificate authorities.
#[derive(Debug, thiserror::Error)]
pub enum CaProblem {
    #[error("{0}")]
    Unreadable(#[source] std::io::Error),
    #[error("this is no PEM file with certificates (-----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    #[error("a certificate in it is damaged")]
    Damaged,
}

impl Run {
    /// Checks everything that does not need privileges. Relative paths start at `working_directory`.
    pub fn validate(self, working_directory: &Path) -> Result<config::Run, Invalid> {
        if let Some(word) = self.misplaced.first() {
            return Err(Invalid::Misplaced(word.clone()));
        }
        let scope = self.scope(working_directory)?;
        self.check_network(&scope)?;
        if self.max_retries == 0 && !self.retry_status.is_empty() {
            return Err(Invalid::StatusWithoutRetries);
        }
        // CMD writes to the same terminal; there, only what is wrong is worth a line.
        let default_level = match scope {
            config::Scope::Command(_) => tracing::Level::WARN,
            config::Scope::Cgroup(_) | config::Scope::Machine => tracing::Level::INFO,
        };
        Ok(config::Run {
            destinations: destinations(&self.destinations, working_directory)?,
            listen: self.listen,
            virtual_ips: self.virtual_ips,
            scope,
            hosts_file: self
                .hosts_file
                .map(|path| hosts_file(path, working_directory))
                .transpose()?,
            metrics: self.metrics,
            logging: config::Logging {
                level: self.log_level.unwrap_or(default_level),
                format: self.log_format,
                access: self.access_log,
                file: self.log_file.map(|path| working_directory.join(path)),
            },
            retry: (self.max_retries > 0).then_some(config::Retry {
                max_retries: self.max_retries,
                status_codes: self.retry_status,
            }),
            additional_cas: self
                .additional_ca
                .into_iter()
                .map(|file| additional_ca(file, working_directory))
                .collect::<Result<_, _>>()?,
            drain_timeout: Duration::from_secs(self.drain_timeout.into()),
        })
    }

    fn scope(&self, working_directory: &Path) -> Result<config::Scope, Invalid> {
        if let Some(user) = &self.user {
            if self.command.is_empty() {
                return Err(Invalid::UserWithoutCommand);
            }
            check_user(user)?;
        }
        match (&self.cgroup, self.command.split_first()) {
            (Some(_), Some(_)) => Err(Invalid::CgroupAndCommand),
            (Some(cgroup), None) => cgroup_scope(cgroup, working_directory),
            (None, None) => Ok(config::Scope::Machine),
            (None, Some((program, _))) if program.is_empty() => Err(Invalid::EmptyCommand),
            (None, Some((program, arguments))) => Ok(config::Scope::Command(config::Command {
                program: program.clone(),
                arguments: arguments.to_vec(),
                user: self.user.clone(),
            })),
        }
    }

    fn check_network(&self, scope: &config::Scope) -> Result<(), Invalid> {
        let network = self.virtual_ips;
        if network.max_prefix_len() - network.prefix_len() < 2 {
            return Err(Invalid::NetworkTooSmall(network));
        }
        // A listener that everybody else reaches too is the sign that somebody thought about routes.
        let routed = matches!(scope, config::Scope::Cgroup(_)) && !self.listen.is_loopback();
        match network {
            IpNet::V4(_) if loopback_network().contains(&network) => {
                if let Some(used) = USED_LOOPBACK
                    .into_iter()
                    .map(IpAddr::V4)
                    .find(|used| network.contains(used))
                {
                    return Err(Invalid::NetworkInUse(network, used));
                }
            }
            IpNet::V6(_) if !routed => return Err(Invalid::Ipv6NeedsListen(network)),
            IpNet::V4(_) if !routed => return Err(Invalid::NetworkNotLoopback(network)),
            _ => check_unicast(network)?,
        }
        if network.addr().is_ipv4() != self.listen.is_ipv4() {
            return Err(Invalid::FamiliesDiffer(network, self.listen));
        }
        if network.contains(&self.listen) {
            return Err(Invalid::ListenIsVirtual(network, self.listen));
        }
        Ok(())
    }
}

/// Refuses networks that are, or contain, groups, the loopback network or "this network".
fn check_unicast(network: IpNet) -> Result<(), Invalid> {
    let special = [
        "0.0.0.0/8",
        "127.0.0.0/8",
        "224.0.0.0/3",
        "::/8",
        "fe80::/10",
        "ff00::/8",
    ];
    let overlaps = special
        .into_iter()
        .map(|text| text.parse::<IpNet>().expect("a constant that the tests parse"))
        .any(|special| special.contains(&network) || network.contains(&special));
    if overlaps {
        Err(Invalid::NetworkNotUnicast(network))
    } else {
        Ok(())
    }
}

fn destinations(given: &[PathBuf], working_directory: &Path) -> Result<Vec<PathBuf>, Invalid> {
    if given.is_empty() {
        let default = working_directory.join(DEFAULT_DESTINATIONS);
        return if default.exists() {
            Ok(vec![default])
        } else {
            Err(Invalid::NoDestinations)
        };
    }
    let mut found: Vec<PathBuf> = Vec::new();
    for path in given {
        let absolute = working_directory.join(path);
        if !absolute.exists() {
            return Err(Invalid::DestinationsMissing(path.clone()));
        }
        if found.contains(&absolute) {
            return Err(Invalid::DestinationsTwice(path.clone()));
        }
        found.push(absolute);
    }
    Ok(found)
}

fn cgroup_scope(cgroup: &Path, working_directory: &Path) -> Result<config::Scope, Invalid> {
    let absolute = working_directory.join(cgroup);
    if !absolute.is_dir() {
        return Err(Invalid::CgroupMissing(cgroup.to_owned()));
    }
    // Version 1 has no such file, the root of version 2 has it too.
    if !absolute.join("cgroup.controllers").exists() {
        return Err(Invalid::NotCgroup2(cgroup.to_owned()));
    }
    Ok(config::Scope::Cgroup(absolute))
}

fn hosts_file(path: PathBuf, working_directory: &Path) -> Result<PathBuf, Invalid> {
    let absolute = working_directory.join(&path);
    if absolute.is_dir() {
        return Err(Invalid::HostsFileIsFolder(path));
    }
    let folder = absolute.parent().unwrap_or(&absolute);
    if !folder.is_dir() {
        let folder = folder.to_owned();
        return Err(Invalid::HostsFolderMissing(path, folder));
    }
    Ok(absolute)
}

fn check_user(user: &str) -> Result<(), Invalid> {
    let known = match user.parse::<u32>() {
        Ok(uid) => User::from_uid(Uid::from_raw(uid)),
        Err(_) => User::from_name(user),
    };
    match known {
        Ok(Some(_)) => Ok(()),
        _ => Err(Invalid::UserUnknown(user.to_owned())),
    }
}

fn additional_ca(file: PathBuf, working_directory: &Path) -> Result<PathBuf, Invalid> {
    let absolute = working_directory.join(&file);
    match ca_problem(&absolute) {
        None => Ok(absolute),
        Some(problem) => Err(Invalid::AdditionalCa { file, problem }),
    }
}

fn ca_problem(file: &Path) -> Option<CaProblem> {
    let text = match std::fs::read(file) {
        Ok(text) => text,
        Err(error) => return Some(CaProblem::Unreadable(error)),
    };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Some(CaProblem::NoCertificate),
        Ok(_) => None,
        Err(_) => Some(CaProblem::Damaged),
    }
}
