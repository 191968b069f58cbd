//! Targets that write down every byte they get.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use super::message::{self, Fault, From, Message};
use crate::harness::{tcp, wait};

/// What came in, over all connections.
#[derive(Debug, Default)]
pub struct Seen {
    pub messages: Vec<Message>,
    /// Ends of connections inside a message: the bytes without those of whole messages.
    pub broken_off: Vec<Vec<u8>>,
    pub malformed: Vec<(Fault, Vec<u8>)>,
    open: usize,
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
        let address = tcp::listen(move |connection| serve(connection, &log));
        Self { address, seen }
    }

    /// The whole messages since the last time.
    pub fn messages(&self) -> Vec<Message> {
        std::mem::take(&mut self.seen.lock().unwrap().messages)
    }

    /// What was not taken yet, when all connections have ended.
    pub fn finish(self) -> Seen {
        wait::until("all connections have ended", || {
            self.seen.lock().unwrap().open == 0
        });
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

fn serve(connection: TcpStream, seen: &Mutex<Seen>) {
    seen.lock().unwrap().open += 1;
    let (unread, fault) = answer_all(connection, seen);
    let mut seen = seen.lock().unwrap();
    seen.open -= 1;
    match fault {
        Some(fault) => seen.malformed.push((fault, unread)),
        None if unread.is_empty() => {}
        None => seen.broken_off.push(unread),
    }
}

/// Answers until the connection ends; gives what was no message, and what was wrong with it.
fn answer_all(mut connection: TcpStream, seen: &Mutex<Seen>) -> (Vec<u8>, Option<Fault>) {
    let (mut unread, mut chunk) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        // A reset is an end, too.
        let length = connection.read(&mut chunk).unwrap_or(0);
        if length == 0 {
            return (unread, None);
        }
        unread.extend_from_slice(&chunk[..length]);
        let messages = match whole_messages(&mut unread) {
            Ok(messages) => messages,
            Err(fault) => return (unread, Some(fault)),
        };
        let answers = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".repeat(messages.len());
        seen.lock().unwrap().messages.extend(messages);
        if connection.write_all(&answers).is_err() {
            return (unread, None);
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
