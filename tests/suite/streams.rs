//! Bodies of two gigabytes in both directions, through memory that stays small.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{ChildStdin, ChildStdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use serde_json::json;
use tests::memory::Memory;

use crate::harness::proxy::{Proxy, Running};
use crate::harness::wait;

const TWO_GIGABYTES: u64 = 2 << 30;
/// What the proxy's memory may grow by while two gigabytes pass.
const GROWTH_LIMIT_KIB: u64 = 10 << 10;

/// An HTTP/1.1 server for one connection at a time: it answers `GET /ping` with a word, any other GET
/// with two gigabytes and PUT with the number of bytes it read. `sent` tells how far it is.
struct Server {
    address: SocketAddr,
    sent: Arc<AtomicU64>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("its address");
        let sent = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&sent);
        thread::spawn(move || {
            for connection in listener.incoming() {
                let (connection, counter) = (connection.expect("a connection"), Arc::clone(&counter));
                thread::spawn(move || while answer(&connection, &counter) {});
            }
        });
        Self { address, sent }
    }

    /// Waits until the answer no longer moves: every buffer on the way is full.
    fn wait_until_stalled(&self) {
        let (mut last, mut same) = (u64::MAX, 0);
        wait::until("the answer stands still", || {
            let now = self.sent.load(Ordering::Relaxed);
            same = if now == last && now > 0 { same + 1 } else { 0 };
            last = now;
            same > 20
        });
    }
}

/// Answers one request; false at the end of the connection.
fn answer(connection: &TcpStream, sent: &AtomicU64) -> bool {
    let mut reader = BufReader::with_capacity(1 << 18, connection);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if reader.read_until(b'\n', &mut head).unwrap_or(0) == 0 {
            return false;
        }
    }
    let respond = |length: u64| {
        let mut connection = connection;
        write!(connection, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").expect("the head is sent");
        connection
    };
    if head.starts_with(b"PUT") {
        let received = io::copy(&mut reader.take(TWO_GIGABYTES), &mut io::sink()).expect("the body is read");
        let text = received.to_string();
        return respond(text.len() as u64).write_all(text.as_bytes()).is_ok();
    }
    if head.starts_with(b"GET /ping") {
        return respond(4).write_all(b"pong").is_ok();
    }
    let mut writer = respond(TWO_GIGABYTES);
    let chunk = vec![b'x'; 1 << 18];
    for _ in 0..TWO_GIGABYTES / chunk.len() as u64 {
        if writer.write_all(&chunk).is_err() {
            return false;
        }
        sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
    }
    true
}

/// An application behind the proxy that does one small request, then waits for each next line of the test.
struct Application {
    running: Running,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    memory_before: u64,
}

impl Application {
    fn start(test: &str, server: &Server, script: &str) -> Self {
        let proxy = Proxy::for_test(test).quiet().destination(
            "my-dest",
            json!({
                "Type": "HTTP", "URL": format!("http://{}", server.address), "ProxyType": "Internet",
                "Authentication": "NoAuthentication",
            }),
        );
        let script = format!("exec 3<&0; curl -sS http://my-dest/ping; echo; read _; {script}; echo; read _");
        let mut running = proxy.start(&["sh", "-c", &script]);
        let input = running.0.stdin.take().expect("its input is piped");
        let output = BufReader::new(running.0.stdout.take().expect("its output is piped"));
        let mut application = Self {
            running,
            input,
            output,
            memory_before: 0,
        };
        assert_eq!(application.line(), "pong");
        application.memory_before = Memory::of(application.running.0.id()).now;
        application.go_on();
        application
    }

    fn go_on(&mut self) {
        writeln!(self.input).expect("the application listens");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the application prints");
        line.trim().to_owned()
    }

    fn growth(&self) -> u64 {
        Memory::of(self.running.0.id())
            .most
            .saturating_sub(self.memory_before)
    }
}

#[test]
fn two_gigabytes_up_need_no_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("zeroes");
    File::create(&file)
        .and_then(|file| file.set_len(TWO_GIGABYTES))
        .expect("a sparse file");
    let upload = format!("curl -sS -T {} http://my-dest/", file.display());
    let mut application = Application::start("two-gigabytes-up", &Server::start(), &upload);
    assert_eq!(application.line(), TWO_GIGABYTES.to_string());
    let growth = application.growth();
    assert!(growth < GROWTH_LIMIT_KIB, "{growth} KiB");
}

#[test]
fn two_gigabytes_down_need_no_memory_even_when_the_reader_stalls() {
    let server = Server::start();
    let download = "curl -sS http://my-dest/ | { read _ <&3; wc -c; }";
    let mut application = Application::start("two-gigabytes-down", &server, download);
    server.wait_until_stalled();
    application.go_on();
    assert_eq!(application.line(), TWO_GIGABYTES.to_string());
    let growth = application.growth();
    assert!(growth < GROWTH_LIMIT_KIB, "{growth} KiB");
}
