//! Targets that write down every byte they get.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::message::{self, Fault, From, Message};
use crate::harness::wait;

/// What came in, over all connections.
#[derive(Debug, Default)]
pub struct Seen {
    pub messages: Vec<Message>,
    /// Ends of connections inside a message: the bytes without those of whole messages.
    pub broken_off: Vec<Vec<u8>>,
    pub malformed: Vec<(Fault, Vec<u8>)>,
    /// Connections that are inside a message now.
    busy: usize,
}

/// Answers every request with `ok` and keeps connections open, so that a request that was smuggled into a body would
/// be seen as one of its own.
pub struct Target {
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

impl Target {
    pub fn start() -> Self {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let log = Arc::clone(&seen);
        let address = listen(move |connection| serve(connection, &log));
        Self { address, seen }
    }

    /// What was seen since the last time.
    pub fn take(&self) -> Seen {
        wait::until("no connection is inside a message", || {
            self.seen.lock().unwrap().busy == 0
        });
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

/// Serves each connection of a new listener on a thread of its own.
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

fn serve(mut connection: TcpStream, seen: &Mutex<Seen>) {
    let (mut unread, mut chunk) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        // A reset is an end, too.
        let length = connection.read(&mut chunk).unwrap_or(0);
        let mut seen = seen.lock().unwrap();
        if length == 0 {
            if !unread.is_empty() {
                seen.busy -= 1;
                seen.broken_off.push(unread);
            }
            return;
        }
        seen.busy -= usize::from(!unread.is_empty());
        unread.extend_from_slice(&chunk[..length]);
        let answers = match whole_messages(&mut unread) {
            Ok(messages) => {
                let count = messages.len();
                seen.messages.extend(messages);
                count
            }
            Err(fault) => {
                seen.malformed.push((fault, unread));
                return;
            }
        };
        seen.busy += usize::from(!unread.is_empty());
        drop(seen);
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".repeat(answers);
        if connection.write_all(&answer).is_err() {
            return;
        }
    }
}

/// Takes the messages off the front that are there as a whole.
fn whole_messages(bytes: &mut Vec<u8>) -> Result<Vec<Message>, Fault> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        match message::parse(bytes, From::Client) {
            Ok((message, length)) => {
                messages.push(message);
                bytes.drain(..length);
            }
            Err(Fault::Incomplete) => break,
            Err(fault) => return Err(fault),
        }
    }
    Ok(messages)
}
