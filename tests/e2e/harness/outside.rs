//! Servers outside of the cluster. They see what the proxy really sends, and from where.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

/// Where the switch listens; pods get there by the nodes' routes.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 89, 0, 1);

pub struct Outside {
    state: PathBuf,
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Request {
    pub from: IpAddr,
    pub path: String,
    pub host: String,
    pub authorization: String,
}

/// An HTTP server that answers whoever sends the `Authorization` that it wants at the time.
pub struct HttpServer {
    pub name: String,
    address: SocketAddr,
    wanted: Arc<Mutex<String>>,
    requests: Arc<Mutex<Vec<Request>>>,
}

/// A server that sends back what it gets.
pub struct EchoServer {
    pub address: SocketAddr,
    peers: Arc<Mutex<Vec<IpAddr>>>,
}

impl Outside {
    pub fn of(state: &Path) -> Self {
        Self {
            state: state.to_owned(),
        }
    }

    /// Reachable by this name, which has to be one that is used once.
    pub fn http(&self, name: &str, wanted: &str) -> HttpServer {
        let listener = self.listen();
        let server = HttpServer {
            name: name.to_owned(),
            address: listener.local_addr().expect("an address"),
            wanted: Arc::new(Mutex::new(wanted.to_owned())),
            requests: Arc::default(),
        };
        self.name(name);
        let (wanted, requests) = (Arc::clone(&server.wanted), Arc::clone(&server.requests));
        serve(listener, move |connection| {
            answer_all(connection, &wanted, &requests);
        });
        server
    }

    pub fn echo(&self) -> EchoServer {
        let listener = self.listen();
        let server = EchoServer {
            address: listener.local_addr().expect("an address"),
            peers: Arc::default(),
        };
        let peers = Arc::clone(&server.peers);
        serve(listener, move |mut connection| {
            peers.lock().unwrap().push(peer(&connection));
            let Ok(mut back) = connection.try_clone() else {
                return;
            };
            std::io::copy(&mut connection, &mut back).ok();
        });
        server
    }

    /// Sockets belong to the namespace where they are made.
    fn listen(&self) -> TcpListener {
        let pid = fs::read_to_string(self.state.join("switch.pid")).expect("the cluster has a switch");
        let namespace = File::open(format!("/proc/{}/ns/net", pid.trim())).expect("its namespace");
        let listen = || {
            setns(&namespace, CloneFlags::CLONE_NEWNET).expect("root may enter");
            TcpListener::bind((ADDRESS, 0)).expect("a port")
        };
        thread::scope(|scope| scope.spawn(listen).join().unwrap())
    }

    /// The cluster's DNS server reads this file every second.
    fn name(&self, name: &str) {
        let mut hosts = File::options()
            .append(true)
            .open(self.state.join("hosts"))
            .expect("the cluster has a hosts file");
        writeln!(hosts, "{ADDRESS} {name}").expect("it can be written");
    }
}

impl HttpServer {
    pub fn url(&self) -> String {
        format!("http://{}:{}", self.name, self.address.port())
    }

    /// From now on another credential is right.
    pub fn demand(&self, authorization: &str) {
        authorization.clone_into(&mut self.wanted.lock().unwrap());
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub fn last(&self) -> Request {
        self.requests().pop().expect("there was a request")
    }

    pub fn forget(&self) {
        self.requests.lock().unwrap().clear();
    }
}

impl EchoServer {
    pub fn last_peer(&self) -> IpAddr {
        *self.peers.lock().unwrap().last().expect("there was a connection")
    }
}

fn peer(connection: &TcpStream) -> IpAddr {
    connection
        .peer_addr()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip())
}

fn serve(listener: TcpListener, connection: impl Fn(TcpStream) + Send + Sync + 'static) {
    let connection = Arc::new(connection);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = Arc::clone(&connection);
            thread::spawn(move || connection(stream));
        }
    });
}

/// One request after the other, until the client goes.
fn answer_all(connection: TcpStream, wanted: &Mutex<String>, requests: &Mutex<Vec<Request>>) {
    connection.set_read_timeout(Some(Duration::from_mins(2))).ok();
    let from = peer(&connection);
    let Ok(mut back) = connection.try_clone() else {
        return;
    };
    let mut lines = BufReader::new(connection);
    while let Some(request) = read(&mut lines, from) {
        let (status, body) = if request.authorization == *wanted.lock().unwrap() {
            ("200 OK", "welcome\n")
        } else {
            ("401 Unauthorized", "who are you?\n")
        };
        requests.lock().unwrap().push(request);
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if back.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// A head; requests here have no body.
fn read(lines: &mut BufReader<impl Read>, from: IpAddr) -> Option<Request> {
    let mut next = || {
        let mut line = String::new();
        lines.read_line(&mut line).ok().filter(|length| *length > 0)?;
        Some(line.trim_end().to_owned())
    };
    let path = next()?.split(' ').nth(1)?.to_owned();
    let (mut host, mut authorization) = (String::new(), String::new());
    loop {
        let line = next()?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "host" => value.trim().clone_into(&mut host),
            "authorization" => value.trim().clone_into(&mut authorization),
            _ => {}
        }
    }
    Some(Request {
        from,
        path,
        host,
        authorization,
    })
}
