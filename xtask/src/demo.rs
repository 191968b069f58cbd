//! The main job, shown on this machine: an unchanged `curl` without
//! credentials reaches a server that demands them.

mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::build_ebpf;
use crate::machine;
use crate::peers;
use crate::progress::Progress;
use crate::shell::{as_root, cargo};
use crate::workspace;
use server::Server;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Use this binary instead of building one
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

const USER: &str = "ada";
/// Without the two that build.
const STEPS: usize = 4;
const BUILD_STEPS: usize = 2;

pub(crate) fn run(options: &Options) -> Result<()> {
    let steps = STEPS + if options.binary.is_some() { 0 } else { BUILD_STEPS };
    let mut progress = Progress::new("demo", steps);
    let binary = match &options.binary {
        Some(binary) => binary.clone(),
        None => build(&mut progress)?,
    };
    progress.step("nginx, curl and openssl");
    let peers = peers::provide(&["nginx", "curl", "openssl"])?;
    progress.step("a server that demands a password, over TLS");
    let folder = tempfile::Builder::new()
        .prefix("transparent-proxy-demo-")
        .tempdir()
        .context("a folder")?;
    let password = password()?;
    let server = Server::start(folder.path(), &peers, USER, &password)?;
    write_destination(folder.path(), &server, &password)?;
    if let Some(reason) = machine::unfit() {
        say_what_still_runs(&reason);
        bail!("the demo needs eBPF: {reason}");
    }
    let curl = peers.program("curl")?;
    progress.step("without the proxy");
    let refused = ask_directly(curl, &server)?;
    progress.step("the same curl inside `transparent-proxy run`");
    let greeted = ask_through(&binary, curl, folder.path(), &server, &password)?;
    ensure!(
        refused.starts_with("HTTP/1.1 401"),
        "the server should have refused:\n{refused}"
    );
    ensure!(
        greeted.starts_with("HTTP/1.1 200"),
        "the server should have answered:\n{greeted}"
    );
    drop(server);
    let path = folder.path().to_owned();
    folder
        .close()
        .with_context(|| format!("{} can be removed", path.display()))?;
    println!(
        "\nThe application said nothing about users, passwords or TLS; the proxy did.\n\
         The server, the destination and the folder {} are gone again.\n\
         Your own: write a file like the one above and run\n    sudo {} run --destinations FOLDER -- COMMAND",
        path.display(),
        binary.display(),
    );
    progress.done();
    Ok(())
}

fn build(progress: &mut Progress) -> Result<PathBuf> {
    progress.step("kernel object");
    build_ebpf::run(&build_ebpf::Options::default())?;
    let arguments = ["build", "--locked", "--package", "transparent-proxy"];
    progress.command(
        "build of the proxy (some minutes the first time)",
        cargo().args(arguments),
    )?;
    Ok(workspace::binary(false))
}

fn say_what_still_runs(reason: &str) {
    println!(
        "\nThis machine cannot load eBPF programs: {reason}.\n\
         What still runs here: `cargo xtask test` (without its privileged part),\n\
         `transparent-proxy check FILE` and `transparent-proxy doctor`, which names every remedy.\n"
    );
}

/// A fresh one for every demo.
fn password() -> Result<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/uuid").context("the kernel gives random numbers")?;
    Ok(id.trim().replace('-', ""))
}

fn write_destination(folder: &Path, server: &Server, password: &str) -> Result<()> {
    // Beside the folder: every file in it is taken for a destination.
    let password_file = folder.join("password");
    fs::write(&password_file, password).context("the password can be written")?;
    let text = format!(
        "Name: my-dest\nType: HTTP\nURL: {url}\nProxyType: Internet\nAuthentication: BasicAuthentication\n\
         User: {USER}\nPassword: ${{file:{password_file}}}\n",
        url = server.url(),
        password_file = password_file.display(),
    );
    let destinations = folder.join("destinations");
    fs::create_dir(&destinations).context("a folder for the destination")?;
    fs::write(destinations.join("my-dest.yaml"), &text).context("the destination can be written")?;
    println!("    {}:", destinations.join("my-dest.yaml").display());
    text.lines().for_each(|line| println!("        {line}"));
    Ok(())
}

fn ask_directly(curl: &Path, server: &Server) -> Result<String> {
    let url = format!("{}/hello", server.url());
    let mut command = Command::new(curl);
    command
        .arg("--silent")
        .arg("--include")
        .args(["--max-time", "10"]);
    command.arg("--cacert").arg(server.authority()).arg(&url);
    show(
        &mut command,
        &format!("curl --include --cacert {} {url}", server.authority().display()),
    )
}

fn ask_through(binary: &Path, curl: &Path, folder: &Path, server: &Server, password: &str) -> Result<String> {
    let mut command = as_root(binary);
    command
        .arg("run")
        .arg("--destinations")
        .arg(folder.join("destinations"));
    command
        .arg("--additional-ca")
        .arg(server.authority())
        .arg("--")
        .arg(curl);
    command.args([
        "--silent",
        "--include",
        "--max-time",
        "10",
        "http://my-dest/hello",
    ]);
    let answer = show(
        &mut command,
        "transparent-proxy run -- curl --include http://my-dest/hello",
    )?;
    ensure!(
        !answer.contains(password),
        "the application must not see the password"
    );
    Ok(answer)
}

/// Runs a command as a person would and shows what it prints.
fn show(command: &mut Command, shown_as: &str) -> Result<String> {
    println!("    $ {shown_as}");
    let output = command
        .stdin(Stdio::null())
        .output()
        .context("the command starts")?;
    let answer = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    answer.lines().for_each(|line| println!("    > {line}"));
    if !output.status.success() {
        bail!("{}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(answer)
}
