//! The command line: the roles, their options, and what makes a command line wrong.
//!
//! clap checks one option at a time; [`validate`] checks how they fit together and
//! what they name on this machine, and gives back the [`config`](crate::config).

pub mod validate;

mod values;

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use http::{StatusCode, Uri};
use ipnet::IpNet;

use crate::telemetry::logging;

/// Exit code of a wrong command line, as clap has it too.
pub const WRONG_COMMAND_LINE: u8 = 2;

#[derive(Debug, Parser)]
#[command(
    name = "transparent-proxy",
    version,
    about = "Gives applications access to destinations, with the credentials that they never see",
    long_about = "Gives applications access to destinations, with the credentials that they never see.\n\n\
        An application connects to http://my-dest/ as if nobody had to log in there. An eBPF program \
        redirects that one connection to this proxy, which adds the credentials of the destination \
        my-dest and passes the request on. Everything else that the application does stays untouched.",
    after_help = "Start with `transparent-proxy doctor`: it says whether this machine is fit, and what to change.",
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(subcommand)]
    pub role: Role,
}

#[derive(Debug, Subcommand)]
pub enum Role {
    /// Serve destinations from files, to one command or to processes that run already
    Run(Box<Run>),
    /// Check destination files without running anything
    Check(Check),
    /// Say whether this machine is fit to run the proxy, and what to change if not
    Doctor(Doctor),
    /// On Kubernetes, one per node: redirect connections to destinations and serve them
    Agent(Box<Agent>),
    /// On Kubernetes: make Services out of Destination resources, and keep their status
    Manager(InCluster),
    /// On Kubernetes: tell how the proxy and its destinations are
    Healthcheck(Healthcheck),
    /// On Kubernetes, before an uninstallation: remove the Services that the manager made
    Cleanup(InCluster),
    /// Print the CustomResourceDefinition of Destination resources
    Crds,
    /// In an agent's pod: say why connections to a destination are or are not redirected
    Explain(Explain),
    /// In an agent's pod: list the open connections
    Connections(Connections),
    /// Inside of the sandbox: become CMD
    #[command(name = "__enter", hide = true)]
    Enter(Enter),
    /// Beside the sandbox: clear everything when the proxy is gone
    #[command(name = "__watch", hide = true)]
    Watch(Watch),
    /// Connect to an address, for the self test of the eBPF programs
    #[command(name = "__probe", hide = true)]
    Probe,
    /// Ask the health application, for `helm test`
    #[command(name = "__get", hide = true)]
    Get(Get),
    /// The sandbox of `run` alone, without any proxy: for tests
    #[command(name = "__sandbox", hide = true)]
    Sandbox(SandboxOnly),
}

const RUN_EXAMPLES: &str = "\
Examples:
  sudo transparent-proxy run -- curl http://my-dest/
      destinations from ./destinations; curl runs as the user who called sudo
  sudo transparent-proxy run --destinations ./dest.yaml -- ./my-server --port 8080
      destinations from one file
  sudo transparent-proxy run --cgroup /sys/fs/cgroup/system.slice/my-app.service --hosts-file ./hosts
      serve a systemd service that runs already; prints the table of names
  sudo transparent-proxy run --cgroup PATH --listen 10.0.0.1 --virtual-ips 10.200.0.0/16
      serve a container in another network namespace that reaches this machine at 10.0.0.1

Exit codes:
  the exit code of CMD; 128 + N when signal N ended it; 126 when CMD cannot be executed,
  127 when it is not found; 2 for a wrong command line; 1 when the proxy cannot run";

#[derive(Debug, Args)]
#[command(
    after_help = RUN_EXAMPLES,
    override_usage = "transparent-proxy run [OPTIONS] [-- CMD [ARGUMENTS]...]"
)]
pub struct Run {
    /// Folder or file with destinations (YAML, JSON or key=value); may be given several times
    /// [default: ./destinations]
    #[arg(long, value_name = "PATH")]
    pub destinations: Vec<PathBuf>,

    /// Address, without port, at which the redirected connections arrive
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1", value_parser = values::listen)]
    pub listen: IpAddr,

    /// Network out of which every destination gets a virtual IP
    #[arg(long, value_name = "CIDR", default_value = "127.66.0.0/16", value_parser = values::network)]
    pub virtual_ips: IpNet,

    /// Serve the processes of this cgroup (v2) instead of a CMD
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,

    /// Keep this hosts file current: lines between two markers are ours, others stay
    #[arg(long, value_name = "PATH")]
    pub hosts_file: Option<PathBuf>,

    /// Run CMD as this user (name or number) instead of the one who called sudo
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,

    /// Serve /metrics, /status and /healthz at this address and port
    #[arg(long, value_name = "ADDR:PORT", value_parser = values::metrics)]
    pub metrics: Option<SocketAddr>,

    /// How much to log: error, warn, info, debug or trace [default: warn with a CMD, else info]
    #[arg(long, value_name = "LEVEL", value_parser = values::log_level)]
    pub log_level: Option<tracing::Level>,

    /// How to log
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: logging::Format,

    /// Log to this file (it is appended to) instead of standard error
    #[arg(long, value_name = "PATH")]
    pub log_file: Option<PathBuf>,

    /// Also log one line per HTTP request: method, path without its query, status, time
    #[arg(long)]
    pub access_log: bool,

    /// Repeat a failed HTTP request up to N times (0 to 10); it may then run more than once
    #[arg(long, value_name = "N", default_value = "0", value_parser = values::max_retries)]
    pub max_retries: u8,

    /// With --max-retries: also repeat these responses, e.g. 429,502,503
    #[arg(long, value_name = "CODES", value_delimiter = ',', value_parser = values::retry_status)]
    pub retry_status: Vec<StatusCode>,

    /// Trust the certificate authorities of this PEM file too; may be given several times
    #[arg(long, value_name = "FILE")]
    pub additional_ca: Vec<PathBuf>,

    /// How long open requests and connections may take to finish at the end (0 to 3600)
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = values::drain_timeout)]
    pub drain_timeout: u16,

    /// Words that stand where only options may; caught for the sake of a better message.
    #[arg(hide = true)]
    pub misplaced: Vec<OsString>,

    /// Command to run; everything after `--` belongs to it
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 when everything is right, 1 when a destination is broken.")]
pub struct Check {
    /// Folders or files with destinations
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,

    /// How to print the result
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: OutputFormat,
}

#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 when this machine will do, 1 when something has to be changed first.")]
pub struct Doctor {
    /// How to print the result
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: OutputFormat,

    /// What is to run here [default: in a pod what it runs, elsewhere `run`]
    #[arg(long, value_name = "ROLE")]
    pub role: Option<Part>,

    /// In a pod: file with the settings, as the chart writes it (JSON)
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/transparent-proxy/config.json"
    )]
    pub config: PathBuf,

    /// In a pod: installation namespace
    #[arg(long, value_name = "NAME", env = "POD_NAMESPACE")]
    pub namespace: Option<String>,

    /// In a pod: its addresses
    #[arg(long, value_name = "ADDR", env = "POD_IPS", value_delimiter = ',')]
    pub ips: Vec<IpAddr>,
}

/// What `doctor` looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    Run,
    Agent,
    /// An agent without hook
    Fallback,
    Manager,
    Healthcheck,
}

/// What a role on Kubernetes is told by its pod.
#[derive(Debug, Args)]
pub struct InCluster {
    /// File with the settings, as the chart writes it (JSON)
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/transparent-proxy/config.json"
    )]
    pub config: PathBuf,

    /// Installation namespace
    #[arg(long, value_name = "NAME", env = "POD_NAMESPACE")]
    pub namespace: String,

    /// Name of this pod
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pub pod: String,

    /// Address of the probes: /healthz, /readyz and /status
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:8081")]
    pub probes: SocketAddr,

    /// Address of the metrics, if they are enabled
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:9494")]
    pub metrics: SocketAddr,

    /// Folder with the file by which the log level is changed
    #[arg(long, value_name = "PATH", default_value = "/etc/logging")]
    pub logging: PathBuf,
}

#[derive(Debug, Args)]
pub struct Agent {
    #[command(flatten)]
    pub cluster: InCluster,

    /// Node of this pod
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    pub node: String,

    /// Addresses of this pod
    #[arg(
        long,
        value_name = "ADDR",
        env = "POD_IPS",
        value_delimiter = ',',
        required = true
    )]
    pub ips: Vec<IpAddr>,

    /// Serve what arrives by the Services, for any node, and attach no eBPF programs
    #[arg(long)]
    pub fallback: bool,

    /// Address of the metrics of TCP destinations, if metrics are enabled
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:9495")]
    pub tcp_metrics: SocketAddr,

    /// Folder for what a restarted agent serves while the API server is away; holds no secret
    #[arg(long, value_name = "PATH", default_value = "/var/lib/transparent-proxy")]
    pub state: PathBuf,

    /// Folder of the socket that `explain` and `connections` talk to
    #[arg(long, value_name = "PATH", default_value = "/run/transparent-proxy")]
    pub run: PathBuf,
}

#[derive(Debug, Args)]
pub struct Healthcheck {
    #[command(flatten)]
    pub cluster: InCluster,

    /// Address of the pages /status, /destinationCRs and /, which is for people
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:8080")]
    pub listen: SocketAddr,

    /// Port of the agents' probes; they are asked whether connections are redirected
    #[arg(long, value_name = "PORT", default_value = "8081", hide = true)]
    pub agent_probes: u16,
}

#[derive(Debug, Args)]
pub struct Explain {
    /// The Destination resource
    #[arg(value_name = "NAMESPACE/NAME")]
    pub destination: String,

    /// How to print the result
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: OutputFormat,

    /// Folder of the agent's socket
    #[arg(long, value_name = "PATH", default_value = "/run/transparent-proxy")]
    pub run: PathBuf,
}

#[derive(Debug, Args)]
pub struct Connections {
    /// How to print the result
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: OutputFormat,

    /// Folder of the agent's socket
    #[arg(long, value_name = "PATH", default_value = "/run/transparent-proxy")]
    pub run: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum OutputFormat {
    #[default]
    Text,
    Json,
}

#[derive(Debug, Args)]
pub struct Enter {
    /// Folder of the sandbox below /run
    pub directory: PathBuf,
    #[arg(last = true, required = true)]
    pub command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub struct Watch {
    /// Folder of the sandbox below /run
    pub directory: PathBuf,
}

#[derive(Debug, Args)]
pub struct Get {
    /// How long it may take until everything is well, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "0")]
    pub within: u16,

    /// What to ask
    #[arg(value_name = "URL", required = true)]
    pub urls: Vec<Uri>,
}

#[derive(Debug, Args)]
pub struct SandboxOnly {
    #[arg(long)]
    pub user: Option<String>,
    /// ADDRESS=NAME
    #[arg(long, value_parser = values::host)]
    pub host: Vec<(IpAddr, String)>,
    #[arg(last = true, required = true)]
    pub command: Vec<OsString>,
}

#[cfg(test)]
mod tests;
