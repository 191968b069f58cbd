//! The sandbox of `run`, without kernel programs: what CMD sees, and that nothing is left.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;
use transparent_proxy::app::run::hosts::{Entry, PrivateHosts};

use crate::harness::binary;
use crate::harness::node::privileged;

/// Far more than anything here takes.
const DEADLINE: Duration = Duration::from_secs(30);

fn sandbox(options: &[&str], command: &[&str]) -> Command {
    let mut sandbox = binary::command();
    sandbox.arg("__sandbox").args(options).arg("--").args(command);
    sandbox
}

fn run(options: &[&str], command: &[&str]) -> Output {
    sandbox(options, command).stdin(Stdio::null()).output().unwrap()
}

fn shell(script: &str) -> Output {
    run(&["--host", "127.66.0.1=my-dest"], &["sh", "-c", script])
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

/// A sandbox whose CMD told its cgroup, and that it is ready.
struct Started {
    proxy: Child,
    output: BufReader<std::process::ChildStdout>,
    cgroup: PathBuf,
}

impl Started {
    /// The script runs after the cgroup and before `ready` was printed.
    fn new(script: &str, then: &str) -> Self {
        let script = format!("sed -n s/^0:://p /proc/self/cgroup; {script}\necho ready; {then}");
        let mut proxy = sandbox(&["--host", "127.66.0.1=my-dest"], &["sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut started = Self {
            output: BufReader::new(proxy.stdout.take().unwrap()),
            proxy,
            cgroup: PathBuf::new(),
        };
        let path = started.line();
        started.cgroup = mount().join(path.trim_start_matches('/'));
        assert_eq!(started.line(), "ready");
        started
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn directory(&self) -> PathBuf {
        format!("/run/transparent-proxy/run-{}", self.proxy.id()).into()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.proxy.id()).unwrap()), signal).unwrap();
    }

    /// The rest of the output: it ends when the last process that has stdout is gone.
    fn end_of_output(self) -> (Child, String) {
        let (sender, receiver) = mpsc::channel();
        let mut output = self.output;
        std::thread::spawn(move || {
            let mut rest = String::new();
            let _ = sender.send(output.read_to_string(&mut rest).map(|_| rest));
        });
        let rest = receiver
            .recv_timeout(DEADLINE)
            .expect("every process of the sandbox ends");
        (self.proxy, rest.unwrap())
    }
}

fn mount() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mounts
        .lines()
        .rfind(|line| line.contains(" - cgroup2 "))
        .expect("cgroup v2 is mounted");
    line.split(' ').nth(4).unwrap().into()
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "in time: {what}");
        std::thread::yield_now();
    }
}

/// Processes `__watch` of one sandbox.
fn watchers(directory: &Path) -> Vec<Pid> {
    let wanted = directory.to_str().unwrap();
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut arguments = command.split('\0').skip(1);
            arguments.next() == Some("__watch") && arguments.next() == Some(wanted)
        })
        .map(Pid::from_raw)
        .collect()
}

#[test]
fn the_exit_code_of_cmd_is_ours() {
    if !privileged() {
        return;
    }
    assert_eq!(shell("exit 0").status.code(), Some(0));
    assert_eq!(shell("exit 42").status.code(), Some(42));
}

#[test]
fn a_cmd_that_dies_of_a_signal_gives_128_and_its_number() {
    if !privileged() {
        return;
    }
    assert_eq!(shell("kill -SEGV $$").status.code(), Some(128 + 11));
    assert_eq!(shell("kill -KILL $$").status.code(), Some(128 + 9));
}

#[test]
fn a_cmd_that_cannot_be_executed_gives_the_code_of_shells() {
    if !privileged() {
        return;
    }
    let missing = run(&[], &["no-such-program"]);
    assert_eq!(missing.status.code(), Some(127));
    assert_eq!(
        String::from_utf8(missing.stderr).unwrap(),
        "transparent-proxy: no-such-program: command not found\n"
    );
    let no_program = run(&[], &["/etc/passwd"]);
    assert_eq!(no_program.status.code(), Some(126));
    assert_eq!(
        String::from_utf8(no_program.stderr).unwrap(),
        "transparent-proxy: /etc/passwd cannot be executed: no permission\n"
    );
}

#[test]
fn arguments_stdin_and_environment_reach_cmd_unchanged() {
    if !privileged() {
        return;
    }
    let mut child = sandbox(
        &[],
        &[
            "sh",
            "-c",
            r#"printf '%s|' "$@"; echo "$MARK"; cat"#,
            "sh",
            "a b",
            "",
            "--user",
            "*",
        ],
    )
    .env("MARK", "as it was")
    .stdin(Stdio::piped())
    .stdout(Stdio::piped())
    .spawn()
    .unwrap();
    child.stdin.take().unwrap().write_all(b"input").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(stdout(&output), "a b||--user|*|as it was\ninput");
}

#[test]
fn cmd_sees_the_destinations_and_nobody_else_does() {
    if !privileged() {
        return;
    }
    let before = fs::read("/etc/hosts").unwrap();
    let output = shell("cat /etc/hosts; getent hosts my-dest");
    let text = stdout(&output);
    assert!(text.starts_with("127.66.0.1 my-dest\n"), "{text}");
    assert!(text.contains("localhost"), "{text}");
    assert_eq!(
        text.split_whitespace().rev().take(2).collect::<Vec<_>>(),
        ["my-dest", "127.66.0.1"]
    );
    assert_eq!(fs::read("/etc/hosts").unwrap(), before);
}

#[test]
fn an_update_of_the_names_is_seen_by_a_running_cmd() {
    if !privileged() {
        return;
    }
    let mut started = Started::new("", "while read -r _; do cat /etc/hosts | head -n 1; done");
    let hosts = PrivateHosts::new(started.directory().join("hosts"), "/etc/hosts".into());
    let mut input = started.proxy.stdin.take().unwrap();
    for name in ["new-name", "x"] {
        hosts
            .update(&[Entry {
                address: [127, 66, 0, 7].into(),
                name: name.into(),
            }])
            .unwrap();
        input.write_all(b"\n").unwrap();
        assert_eq!(started.line(), format!("127.66.0.7 {name}"));
    }
    drop(input);
    let (mut proxy, _) = started.end_of_output();
    assert!(proxy.wait().unwrap().success());
}

/// Runs a script on a machine whose `/etc` has only what `prepare` makes there.
fn with_own_etc(prepare: &str, script: &str) -> Output {
    let etc = tempfile::tempdir().unwrap();
    fs::copy("/etc/passwd", etc.path().join("passwd")).unwrap();
    let all = format!(r#"set -e; mount --bind "$ETC" /etc; cd /etc; {prepare}; {script}"#);
    Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", &all])
        .env("ETC", etc.path())
        .env(
            "RUN",
            format!("{} __sandbox --host 127.66.0.1=my-dest", binary::path().display()),
        )
        .output()
        .unwrap()
}

#[test]
fn a_missing_hosts_file_is_made_for_the_time_of_cmd() {
    if !privileged() {
        return;
    }
    let output = with_own_etc(":", "$RUN -- cat /etc/hosts; ls /etc");
    assert_eq!(
        stdout(&output),
        "127.66.0.1 my-dest\npasswd\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_hosts_file_behind_a_symbolic_link_stays_there() {
    if !privileged() {
        return;
    }
    let prepare = "echo '10.0.0.1 else' > real; ln -s real hosts";
    let output = with_own_etc(
        prepare,
        "$RUN -- cat /etc/hosts; readlink /etc/hosts; cat /etc/hosts",
    );
    assert_eq!(
        stdout(&output),
        "127.66.0.1 my-dest\n10.0.0.1 else\nreal\n10.0.0.1 else\n"
    );
}

#[test]
fn cmd_asks_the_hosts_file_first_whatever_the_machine_does() {
    if !privileged() {
        return;
    }
    let prepare = ": > hosts; echo 'hosts: dns [NOTFOUND=return] files' > nsswitch.conf";
    let output = with_own_etc(prepare, "$RUN -- cat /etc/nsswitch.conf; cat /etc/nsswitch.conf");
    assert_eq!(
        stdout(&output),
        "hosts: files dns [NOTFOUND=return]\nhosts: dns [NOTFOUND=return] files\n"
    );
}

#[test]
fn cmd_runs_as_the_user_who_called_sudo() {
    if !privileged() {
        return;
    }
    let script =
        r"id -u; id -g; grep -E '^Cap(Prm|Eff|Inh|Amb)|^NoNewPrivs' /proc/self/status; env | grep -c ^SUDO_";
    let output = sandbox(&[], &["sh", "-c", script])
        .envs([
            ("SUDO_UID", "54321"),
            ("SUDO_GID", "54322"),
            ("SUDO_USER", "somebody"),
        ])
        .output()
        .unwrap();
    let none = "0000000000000000";
    assert_eq!(
        stdout(&output),
        format!(
            "54321\n54322\nCapInh:\t{none}\nCapPrm:\t{none}\nCapEff:\t{none}\nCapAmb:\t{none}\nNoNewPrivs:\t0\n0\n"
        )
    );
}

#[test]
fn cmd_runs_as_the_user_of_the_option_with_his_groups_and_variables() {
    if !privileged() {
        return;
    }
    let output = run(
        &["--user", "nobody"],
        &["sh", "-c", "id -un; echo $USER $LOGNAME $HOME; id -G"],
    );
    let groups = Command::new("id").args(["-G", "nobody"]).output().unwrap();
    assert_eq!(
        stdout(&output),
        format!("nobody\nnobody nobody /nonexistent\n{}", stdout(&groups))
    );
}

#[test]
fn signals_are_passed_on_to_cmd() {
    if !privileged() {
        return;
    }
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1] {
        let name = signal.as_str().trim_start_matches("SIG");
        let started = Started::new(
            &format!("trap 'echo got {name}; exit 5' {name}"),
            "while :; do sleep 0.01; done",
        );
        started.signal(signal);
        let (mut proxy, rest) = started.end_of_output();
        assert_eq!(rest, format!("got {name}\n"));
        assert_eq!(proxy.wait().unwrap().code(), Some(5));
    }
}

#[test]
fn ctrl_c_in_a_terminal_reaches_cmd_exactly_once() {
    if !privileged() {
        return;
    }
    let terminal = r#"
import os, pty, sys
pid, fd = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
text = b""
sent = False
while True:
    try:
        more = os.read(fd, 4096)
    except OSError:
        break
    if not more:
        break
    text += more
    if b"ready" in text and not sent:
        sent = True
        os.write(fd, b"\x03")
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(text.decode().count("interrupted"), code)
"#;
    let cmd = r#"
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
print("ready", flush=True)
signal.sigwait([signal.SIGINT])
print("interrupted", flush=True)
if signal.sigtimedwait([signal.SIGINT], 0.5):
    print("interrupted", flush=True)
sys.exit(3 if os.tcgetpgrp(0) == os.getpgrp() else 4)
"#;
    let output = Command::new("python3")
        .args(["-c", terminal])
        .arg(binary::path())
        .args(["__sandbox", "--", "python3", "-c", cmd])
        .output()
        .unwrap();
    assert_eq!(
        stdout(&output),
        "1 3\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn cmd_learns_that_its_terminal_is_gone() {
    if !privileged() {
        return;
    }
    let terminal = r#"
import os, pty, sys
pid, fd = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
while b"ready" not in os.read(fd, 4096):
    pass
os.close(fd)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;
    let output = Command::new("python3")
        .args(["-c", terminal])
        .arg(binary::path())
        .args(["__sandbox", "--", "sh", "-c", "echo ready; exec sleep 1000"])
        .output()
        .unwrap();
    assert_eq!(
        stdout(&output),
        "129\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn nothing_is_left_behind() {
    if !privileged() {
        return;
    }
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mounts();
    // A daemon that outlives CMD, with a cgroup of its own below.
    let script = r#"c=$(sed -n 's/^0:://p' /proc/self/cgroup); m=$(sed -n 's/.* \([^ ]*\) [^ ]* - cgroup2 .*/\1/p' /proc/self/mountinfo | tail -n 1)
        mkdir "$m$c/inner"; setsid sh -c "echo 0 > $m$c/inner/cgroup.procs; echo moved; exec sleep 1000" & read -r _"#;
    let mut started = Started::new("", script);
    assert_eq!(started.line(), "moved");
    let (directory, cgroup) = (started.directory(), started.cgroup.clone());
    assert!(directory.exists() && cgroup.join("inner").exists());
    assert_eq!(watchers(&directory).len(), 1);
    started.proxy.stdin.take().unwrap().write_all(b"\n").unwrap();
    let (mut proxy, _) = started.end_of_output();
    assert!(proxy.wait().unwrap().success());
    assert!(!directory.exists(), "{}", directory.display());
    assert!(!cgroup.exists(), "{}", cgroup.display());
    assert!(watchers(&directory).is_empty());
    assert_eq!(mounts(), before);
}

#[test]
fn a_killed_proxy_takes_cmd_and_its_descendants_along() {
    if !privileged() {
        return;
    }
    let started = Started::new("setsid sh -c 'sleep 1000 & sleep 1000' &", "sleep 1000");
    let (directory, cgroup) = (started.directory(), started.cgroup.clone());
    started.signal(Signal::SIGKILL);
    let (mut proxy, _) = started.end_of_output();
    proxy.wait().unwrap();
    eventually("the cgroup is removed", || !cgroup.exists());
    eventually("the folder is removed", || !directory.exists());
}

#[test]
fn the_next_start_clears_what_was_left_and_spares_the_living() {
    if !privileged() {
        return;
    }
    let living = Started::new("", "read -r _; exit 9");
    let dead = Started::new("setsid sleep 1000 &", "sleep 1000");
    let (directory, cgroup) = (dead.directory(), dead.cgroup.clone());
    let watchers = watchers(&directory);
    assert_eq!(watchers.len(), 1);
    for pid in watchers {
        kill(pid, Signal::SIGKILL).unwrap();
    }
    dead.signal(Signal::SIGKILL);
    let Started {
        mut proxy, output, ..
    } = dead;
    proxy.wait().unwrap();
    assert!(directory.exists() && cgroup.exists());

    assert!(shell("exit 0").status.success());
    assert!(!directory.exists() && !cgroup.exists());
    // Its daemon had this pipe.
    let mut rest = String::new();
    BufReader::new(output).read_to_string(&mut rest).unwrap();

    assert!(living.directory().exists() && living.cgroup.exists());
    let mut living = living;
    drop(living.proxy.stdin.take());
    let (mut proxy, _) = living.end_of_output();
    assert_eq!(proxy.wait().unwrap().code(), Some(9));
}

#[test]
fn cmd_keeps_the_limit_of_open_files() {
    if !privileged() {
        return;
    }
    let limit = Command::new("sh")
        .args(["-c", "ulimit -Sn; ulimit -Hn"])
        .output()
        .unwrap();
    assert_eq!(stdout(&shell("ulimit -Sn; ulimit -Hn")), stdout(&limit));
}

#[test]
fn cmd_has_no_descriptor_of_ours() {
    if !privileged() {
        return;
    }
    // Whoever started this test may have left some open.
    let inherited = Command::new("ls")
        .arg("/proc/self/fd")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(stdout(&run(&[], &["ls", "/proc/self/fd"])), stdout(&inherited));
}

#[test]
fn without_root_one_sentence_says_what_is_missing() {
    if !privileged() {
        return;
    }
    let output = binary::as_nobody(&["__sandbox", "--", "true"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "transparent-proxy: running a CMD takes root (for its cgroup, its mounts and its user): call this with sudo\n"
    );
}

#[test]
fn doctor_tells_an_unprivileged_user_what_to_do() {
    if !privileged() {
        return;
    }
    let output = binary::as_nobody(&["doctor"]);
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    assert!(
        text.contains("failed   privileges: neither root nor the capabilities"),
        "{text}"
    );
    assert!(text.contains("-> use sudo; in a container, add"), "{text}");
}

#[test]
fn a_wrong_command_line_gives_code_2() {
    let output = binary::command()
        .args(["run", "--virtual-ips", "127.0.0.0/8", "--", "true"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.starts_with("error: --virtual-ips 127.0.0.0/8 contains 127.0.0.1"),
        "{text}"
    );
}
