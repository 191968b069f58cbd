//! CMD keeps its names when the machine's hosts file is replaced. The machine is a mount
//! namespace with an `/etc` of its own.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

/// Replaces the hosts file as editors and package managers do, tells CMD, and ends like it.
const MACHINE: &str = r#"
    set -e
    mount --bind "$COPY" /etc
    mkfifo "$COPY/told"
    "$PROXY" __sandbox --host 127.66.0.1=my-dest -- sh -c "$CMD" < /dev/null &
    proxy=$!
    for round in 1 2; do
        echo "127.0.0.1 localhost round$round" > /etc/hosts.new
        read ready < /etc/told
        mv /etc/hosts.new /etc/hosts
        echo replaced > /etc/told
    done
    wait $proxy
"#;

/// Without a mount of its own, CMD would wait for the name until the deadline.
const CMD: &str = r"
    for round in 1 2; do
        echo ready > /etc/told
        read replaced < /etc/told
        until grep -q my-dest /etc/hosts; do sleep 0.02; done
        echo named
    done
";

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn cmd_keeps_its_names_when_the_hosts_file_is_replaced() {
    let copy = tempfile::tempdir().expect("a folder");
    let copied = Command::new("cp")
        .args(["-a", "/etc/.", &copy.path().display().to_string()])
        .status();
    assert!(copied.expect("cp").success());
    // The deadline is there for the case that CMD waits in vain.
    let machine = Command::new("timeout")
        .args(["--kill-after=5", "30", "unshare", "--mount", "sh", "-c", MACHINE])
        .env("COPY", copy.path())
        .env("PROXY", env!("CARGO_BIN_EXE_transparent-proxy"))
        .env("CMD", CMD)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    let mut machine = Killed(machine.expect("timeout and unshare, and root"));
    let output = BufReader::new(machine.0.stdout.take().expect("a pipe"));
    let lines: Vec<String> = output.lines().map_while(Result::ok).collect();
    assert_eq!(lines, ["named", "named"]);
    assert!(machine.0.wait().expect("it ended").success());
}
