//! Small servers and clients, byte by byte.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::Duration;

/// Answers take milliseconds; this is for machines under load.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// An address where nobody listens, unless whoever asks for it does: each process with tests has
/// an address of its own for this, and gives each port of it once. Ports below those that the kernel gives
/// to clients.
pub fn nobody() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    let port = NEXT.fetch_add(1, Ordering::Relaxed);
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    // Other tests have addresses in the lower half of 127/8. A process id has at most 22 bits.
    SocketAddr::from(([127, 128 | high, middle, low], port))
}

/// Serves each connection of a new listener on 127.0.0.1 on a thread of its own.
pub fn listen(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("its address");
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for connection in listener.incoming() {
            let (connection, serve) = (connection.expect("a connection"), Arc::clone(&serve));
            thread::spawn(move || serve(connection));
        }
    });
    address
}

/// An HTTP server that answers every request with this word.
pub fn saying(word: &'static str) -> SocketAddr {
    listen(move |mut connection| {
        while read_head(&mut connection).is_some() {
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{word}", word.len());
            if connection.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    })
}

/// A head up to and with its empty line; nothing at the end of the connection.
pub fn read_head(connection: &mut impl Read) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if connection.read(&mut byte).unwrap_or(0) == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// Everything until the connection ends; a reset is an end, too.
pub fn read_to_end(connection: &mut TcpStream) -> Vec<u8> {
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut all, mut chunk) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        match connection.read(&mut chunk) {
            Ok(0) => return all,
            Ok(length) => all.extend_from_slice(&chunk[..length]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return all,
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&all)),
        }
    }
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let connection = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    connection.set_write_timeout(Some(PATIENCE)).unwrap();
    connection
}

/// The whole answer to a GET on a connection of its own.
pub fn get(address: SocketAddr, path: &str) -> String {
    exchange(
        address,
        &format!("GET {path} HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n"),
    )
}

/// The whole answer to a request that asks for the end of its connection.
pub fn exchange(address: SocketAddr, request: &str) -> String {
    let mut connection = connect(address);
    connection
        .write_all(request.as_bytes())
        .expect("the request is sent");
    String::from_utf8_lossy(&read_to_end(&mut connection)).into_owned()
}
