//! What happens while the proxy runs: destinations change, targets fail, somebody stops it or kills it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::node::{Cgroup, privileged};
use crate::harness::proxy::Proxy;
use crate::harness::{binary, tcp, wait};

/// What is promised for a change of a file.
const LIVE_WITHIN: Duration = Duration::from_secs(2);

fn http_to(target: SocketAddr) -> Value {
    json!({
        "Type": "HTTP", "URL": format!("http://{target}"), "ProxyType": "Internet",
        "Authentication": "NoAuthentication",
    })
}

fn tcp_to(target: SocketAddr) -> Value {
    json!({ "Type": "TCP", "Address": target.to_string(), "ProxyType": "Internet" })
}

fn assert_live_in_time(what: &str, condition: impl FnMut() -> bool) {
    let start = Instant::now();
    wait::until(what, condition);
    let took = start.elapsed();
    assert!(took < LIVE_WITHIN, "{what} after {took:?}");
}

#[test]
fn new_changed_and_removed_destinations_are_live_within_two_seconds() {
    if !privileged() {
        return;
    }
    let (cgroup, files) = (Cgroup::new(), tempfile::tempdir().expect("a folder"));
    let hosts = files.path().join("hosts");
    fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    let proxy = Proxy::for_test("live-changes")
        .destination("first", http_to(tcp::saying("one")))
        .option("--hosts-file")
        .option(hosts.display().to_string());
    let serving = proxy.serve(&cgroup);
    let names = |name: &str| {
        let text = fs::read_to_string(&hosts).unwrap();
        text.contains(&format!(" {name}\n"))
    };
    // Here, because threads stay in the cgroup in which they were started.
    let (two, three) = (http_to(tcp::saying("two")), http_to(tcp::saying("three")));
    cgroup.run(|| {
        let first = serving.address("first");
        assert!(names("first") && tcp::get(first, "/").ends_with("one"));

        proxy.write("second", two);
        assert_live_in_time("a new destination is live", || serving.row("second").is_some());
        assert!(names("second"));
        let second = serving.address("second");
        assert!(tcp::get(second, "/").ends_with("two"));

        proxy.write("first", three);
        assert_live_in_time("a changed one is live", || {
            tcp::get(first, "/").ends_with("three")
        });

        fs::remove_file(proxy.folder().join("second.json")).unwrap();
        assert_live_in_time("a removed one is gone", || TcpStream::connect(second).is_err());
        assert_live_in_time("and nobody sees it", || {
            serving.row("second").is_none() && !names("second")
        });
        assert!(tcp::get(first, "/").ends_with("three"));
    });
    assert!(serving.stop().success());
    assert_eq!(fs::read_to_string(&hosts).unwrap(), "127.0.0.1 localhost\n");
}

#[test]
fn a_broken_file_keeps_its_last_good_version_and_the_log_says_where() {
    if !privileged() {
        return;
    }
    let cgroup = Cgroup::new();
    let proxy = Proxy::for_test("live-broken")
        .destination("broken", http_to(tcp::saying("before")))
        .destination("other", http_to(tcp::saying("other")));
    let serving = proxy.serve(&cgroup);
    let (broken, other) = (serving.address("broken"), serving.address("other"));

    let text =
        "{\n  \"Name\": \"broken\",\n  \"Type\": \"HTTP\"\n  \"URL\": \"http://s3cr3t-broken@127.0.0.1\"\n}";
    proxy.write_file("broken.json", text);
    assert_live_in_time("the log says what is wrong, and where", || {
        proxy.log_text().contains("broken.json:4:3")
    });
    wait::until("the table says so", || {
        serving
            .row("broken")
            .is_some_and(|row| row.ends_with("(the file is broken, its last good version serves)"))
    });
    cgroup.run(|| {
        assert!(tcp::get(broken, "/").ends_with("before"));
        assert!(tcp::get(other, "/").ends_with("other"));
    });

    proxy.write("broken", http_to(tcp::saying("after")));
    cgroup.run(|| assert_live_in_time("it is good again", || tcp::get(broken, "/").ends_with("after")));
}

#[test]
fn on_sigterm_a_running_request_finishes_and_new_connections_are_refused() {
    if !privileged() {
        return;
    }
    let (arrived, arrivals) = mpsc::channel();
    let (go_on, gate) = mpsc::channel::<()>();
    let (arrived, gate) = (Mutex::new(arrived), Mutex::new(gate));
    let target = tcp::listen(move |mut connection| {
        if tcp::read_head(&mut connection).is_some() {
            arrived.lock().unwrap().send(()).ok();
            gate.lock().unwrap().recv().ok();
            connection
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
                .ok();
        }
    });
    let cgroup = Cgroup::new();
    let proxy = Proxy::for_test("live-drain").destination("slow", http_to(target));
    let serving = proxy.serve(&cgroup);
    let address = serving.address("slow");
    let answer = thread::scope(|scope| {
        let request = scope.spawn(|| cgroup.run(|| tcp::get(address, "/")));
        arrivals.recv_timeout(tcp::PATIENCE).expect("the request arrives");
        serving.ask_to_stop();
        cgroup.run(|| {
            wait::until("new connections are refused", || {
                TcpStream::connect(address).is_err()
            });
        });
        assert!(!request.is_finished());
        go_on.send(()).unwrap();
        request.join().unwrap()
    });
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("done"),
        "{answer}"
    );
    assert_eq!(serving.ended().code(), Some(0));
}

#[test]
fn a_tcp_connection_that_outlives_the_deadline_is_reset() {
    if !privileged() {
        return;
    }
    let echo = tcp::listen(|mut connection| {
        let mut word = [0; 5];
        while connection.read_exact(&mut word).is_ok() && connection.write_all(&word).is_ok() {}
    });
    let cgroup = Cgroup::new();
    let proxy = Proxy::for_test("live-deadline")
        .destination("echo", tcp_to(echo))
        .option("--drain-timeout")
        // Seconds, in which one more word has to come back.
        .option("6");
    let serving = proxy.serve(&cgroup);
    let mut connection = cgroup.run(|| tcp::connect(serving.address("echo")));
    let mut word = [0; 5];
    let mut said = |connection: &mut TcpStream| {
        connection.write_all(b"hello").unwrap();
        connection.read_exact(&mut word).map(|()| word)
    };
    assert_eq!(&said(&mut connection).unwrap(), b"hello");
    serving.ask_to_stop();
    assert_eq!(&said(&mut connection).unwrap(), b"hello", "not yet the deadline");
    let error = connection.read(&mut [0]).expect_err("no orderly end");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(serving.ended().code(), Some(0));
}

#[test]
fn when_the_proxy_is_killed_cmd_ends_and_nothing_is_left() {
    if !privileged() {
        return;
    }
    let proxy = Proxy::for_test("live-killed").destination("my-dest", http_to(tcp::saying("hello")));
    let script = "sed -n s/^0:://p /proc/self/cgroup; curl -sS http://my-dest/; echo; exec sleep 600";
    let mut running = proxy.start(&["sh", "-c", script]);
    let mut output = BufReader::new(running.0.stdout.take().expect("its output is piped"));
    let mut line = || {
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    };
    let (cgroup, said) = (line(), line());
    assert_eq!(said, "hello");
    let mount = transparent_proxy::datapath::cgroup::Mount::find().unwrap();
    let cgroup = mount.mount_point.join(cgroup.trim_start_matches('/'));
    let directory = format!("/run/transparent-proxy/run-{}", running.0.id());
    assert!(cgroup.exists() && Path::new(&directory).exists());

    running.0.kill().unwrap();
    running.0.wait().unwrap();
    assert_eq!(line(), "", "CMD has ended, for its output has");
    assert_eq!(proxy.output_of(&["curl", "-sS", "http://my-dest/"]), "hello");
    assert!(!Path::new(&directory).exists(), "{directory}");
    assert!(!cgroup.exists(), "{}", cgroup.display());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&directory), "{mounts}");
}

#[test]
fn a_target_that_is_down_gives_one_clear_error() {
    if !privileged() {
        return;
    }
    let proxy = Proxy::for_test("live-down").destination("my-dest", http_to(tcp::nobody()));
    let answer = proxy.output_of(&["curl", "-sSi", "http://my-dest/"]);
    let message =
        "Failed to establish connection to the target system of destination 'my-dest'. Connection refused.";
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    let field = |name: &str| {
        head.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            .unwrap_or_else(|| panic!("{name} in {head}"))
    };
    assert_eq!(field("x-error-message"), message);
    assert_eq!(field("x-error-origin"), "Transparent Proxy");
    assert_eq!(field("x-proxy-server"), "Transparent Proxy");
    let body: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(
        body,
        json!({"error": {
            "status": 502, "message": message, "origin": "Transparent Proxy", "requestId": field("x-request-id"),
        }})
    );
}

#[test]
fn a_destination_that_leads_back_to_the_proxy_is_an_error_not_a_loop() {
    if !privileged() {
        return;
    }
    let proxy = Proxy::for_test("live-loop")
        .destination("a", http_to(SocketAddr::from(([127, 66, 0, 2], 80))))
        .destination("b", http_to(tcp::saying("b")));
    let answer = proxy.output_of(&["curl", "-sS", "-w", " %{http_code}", "http://a/", "http://b/"]);
    assert!(answer.contains("Address not allowed."), "{answer}");
    assert!(answer.ends_with(" 502b 200"), "{answer}");
}

#[test]
fn a_proxy_that_comes_or_goes_disturbs_no_other() {
    if !privileged() {
        return;
    }
    let cgroup = Cgroup::new();
    let proxy = Proxy::for_test("live-neighbour")
        .quiet()
        .destination("my-dest", http_to(tcp::saying("mine")));
    let serving = proxy.serve(&cgroup);
    let address = serving.address("my-dest");
    let neighbour = Proxy::for_test("live-coming-and-going")
        .quiet()
        .destination("other", http_to(tcp::saying("other")));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            cgroup.run(|| {
                while !done.load(Ordering::Relaxed) {
                    assert!(tcp::get(address, "/").ends_with("mine"));
                }
            });
        });
        for _ in 0..3 {
            let other = Cgroup::new();
            assert!(neighbour.serve(&other).stop().success());
        }
        done.store(true, Ordering::Relaxed);
        client.join().unwrap();
    });
}

#[test]
fn metrics_count_what_happened() {
    if !privileged() {
        return;
    }
    let cgroup = Cgroup::new();
    let metrics = tcp::nobody();
    let proxy = Proxy::for_test("live-metrics")
        .destination("my-dest", http_to(tcp::saying("hello")))
        .destination("down", http_to(tcp::nobody()))
        .option("--metrics")
        .option(metrics.to_string());
    let serving = proxy.serve(&cgroup);
    cgroup.run(|| {
        for _ in 0..3 {
            tcp::get(serving.address("my-dest"), "/");
        }
        tcp::get(serving.address("down"), "/");
    });
    let page = tcp::get(metrics, "/metrics");
    let value = |name: &str, label: &str| {
        let line = page
            .lines()
            .find(|line| line.starts_with(name) && line.contains(label));
        let line = line.unwrap_or_else(|| panic!("{name} with {label} in\n{page}"));
        line.rsplit_once(' ').map(|(_, value)| value.to_owned())
    };
    let (mine, down) = ("destination=\"my-dest\"", "error=\"target_connection_refused\"");
    assert_eq!(value("tp_received_requests_total", "").as_deref(), Some("4"));
    assert_eq!(value("tp_target_system_requests_total", "").as_deref(), Some("3"));
    assert_eq!(
        value("tp_destination_received_requests_total", mine).as_deref(),
        Some("3")
    );
    assert_eq!(
        value("tp_request_duration_seconds_count", "").as_deref(),
        Some("4")
    );
    assert_eq!(value("tp_request_errors_total", down).as_deref(), Some("1"));
    assert_eq!(value("tp_hook_effective", "").as_deref(), Some("1"));
    let redirects: Vec<_> = ["ipv4", "ipv6"]
        .map(|family| value("tp_ebpf_redirects_total", family))
        .into();
    assert!(
        redirects[0] > Some("0".into()) && redirects[1].as_deref() == Some("0"),
        "{page}"
    );
    assert!(tcp::get(metrics, "/status").contains("my-dest"));
}

#[test]
fn open_connections_are_listed_until_they_end() {
    if !privileged() {
        return;
    }
    let cgroup = Cgroup::new();
    let metrics = tcp::nobody();
    let proxy = Proxy::for_test("live-connections")
        .destination("my-dest", http_to(tcp::saying("hello")))
        .option("--metrics")
        .option(metrics.to_string());
    let serving = proxy.serve(&cgroup);
    let listed = || {
        let answer = tcp::get(metrics, "/debug/connections");
        let body = answer.split_once("\r\n\r\n").expect("a body").1;
        serde_json::from_str::<Value>(body).expect("JSON")
    };
    let mut connection = cgroup.run(|| tcp::connect(serving.address("my-dest")));
    connection
        .write_all(b"GET / HTTP/1.1\r\nHost: my-dest\r\n\r\n")
        .unwrap();
    assert!(tcp::read_head(&mut connection).is_some());
    let open = listed();
    assert_eq!(
        (&open[0]["protocol"], &open[0]["destination"]),
        (&"http".into(), &"my-dest".into())
    );
    assert_eq!(
        (&open[0]["state"], &open[0]["bytes_from_app"]),
        (&"open".into(), &Value::Null)
    );
    drop(connection);
    wait::until("the connection is gone", || listed() == serde_json::json!([]));
}

#[test]
fn no_secret_is_among_the_arguments_of_any_process_or_in_the_environment_of_cmd() {
    if !privileged() {
        return;
    }
    let mut basic = http_to(tcp::saying("hello"));
    basic["Authentication"] = "BasicAuthentication".into();
    basic["User"] = "ada".into();
    basic["Password"] = "s3cr3t-arguments".into();
    let proxy = Proxy::for_test("live-arguments").destination("my-dest", basic);
    let script = "curl -sS http://my-dest/; env; cat /proc/[0-9]*/cmdline 2>/dev/null; true";
    let output = proxy.output_of(&["sh", "-c", script]);
    assert!(output.starts_with("hello"), "{output}");
    let program = binary::path();
    assert!(
        output.contains(&*program.to_string_lossy()),
        "ours are among them"
    );
    assert!(!output.contains("s3cr3t-arguments"));
}
