use std::collections::VecDeque;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::*;
use crate::lifecycle::drain::Drain;

fn loopback() -> TcpListener {
    bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap()
}

/// Echoes one byte after another.
async fn echo(mut accepted: Accepted) {
    while let Ok(byte) = accepted.stream.read_u8().await {
        if accepted.stream.write_u8(byte).await.is_err() {
            return;
        }
    }
}

async fn answers(stream: &mut TcpStream) -> io::Result<u8> {
    stream.write_u8(9).await?;
    stream.read_u8().await
}

#[tokio::test]
async fn accepted_sockets_send_at_once_and_probe_their_peers() {
    let drain = Drain::new();
    let listener = loopback();
    let address = listener.local_addr().unwrap();
    let (seen, mut sockets) = mpsc::unbounded_channel();
    tokio::spawn(serve(
        listener,
        Limits::new(LimitsConfig::default()),
        drain.watch(),
        move |accepted| {
            let seen = seen.clone();
            async move {
                let socket = SockRef::from(&accepted.stream);
                seen.send((
                    socket.tcp_nodelay().unwrap(),
                    socket.keepalive().unwrap(),
                    socket.tcp_keepalive_time().unwrap().as_secs(),
                    socket.tcp_keepalive_interval().unwrap().as_secs(),
                    socket.tcp_keepalive_retries().unwrap(),
                ))
                .unwrap();
            }
        },
    ));
    let _client = TcpStream::connect(address).await.unwrap();
    assert_eq!(sockets.recv().await.unwrap(), (true, true, 60, 10, 6));
}

#[tokio::test]
async fn a_source_over_its_cap_is_reset_and_others_are_served() {
    let drain = Drain::new();
    let limits = Limits::new(LimitsConfig {
        per_source: 2,
        ..LimitsConfig::default()
    });
    let listener = loopback();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, Arc::clone(&limits), drain.watch(), echo));
    let mut first = TcpStream::connect(address).await.unwrap();
    let mut second = TcpStream::connect(address).await.unwrap();
    assert_eq!(
        (
            answers(&mut first).await.unwrap(),
            answers(&mut second).await.unwrap()
        ),
        (9, 9)
    );
    let mut third = TcpStream::connect(address).await.unwrap();
    assert_eq!(
        third.read(&mut [0]).await.unwrap_err().kind(),
        io::ErrorKind::ConnectionReset
    );
    let other = tokio::net::TcpSocket::new_v4().unwrap();
    other.bind(SocketAddr::from(([127, 0, 0, 2], 0))).unwrap();
    assert_eq!(
        answers(&mut other.connect(address).await.unwrap()).await.unwrap(),
        9
    );
}

#[tokio::test]
async fn nothing_is_accepted_after_the_drain_has_begun() {
    let drain = Drain::new();
    let listener = loopback();
    let address = listener.local_addr().unwrap();
    let accepting = tokio::spawn(serve(
        listener,
        Limits::new(LimitsConfig::default()),
        drain.watch(),
        echo,
    ));
    let mut running = TcpStream::connect(address).await.unwrap();
    answers(&mut running).await.unwrap();
    drain.start();
    accepting.await.unwrap();
    assert_eq!(
        TcpStream::connect(address).await.unwrap_err().kind(),
        io::ErrorKind::ConnectionRefused
    );
    assert_eq!(answers(&mut running).await.unwrap(), 9, "what runs goes on");
}

#[tokio::test]
async fn a_dual_stack_listener_shows_ipv4_peers_as_such() {
    let drain = Drain::new();
    let listener = bind("[::]:0".parse().unwrap()).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (seen, mut peers) = mpsc::unbounded_channel();
    tokio::spawn(serve(
        listener,
        Limits::new(LimitsConfig::default()),
        drain.watch(),
        move |accepted| {
            let seen = seen.clone();
            async move { seen.send(accepted.peer).unwrap() }
        },
    ));
    let client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    assert_eq!(peers.recv().await.unwrap(), client.local_addr().unwrap());
}

#[tokio::test]
async fn a_port_in_use_is_an_error() {
    let listener = loopback();
    let error = bind(listener.local_addr().unwrap()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn connections_wait_while_descriptors_are_short() {
    let drain = Drain::new();
    let limits = Limits::new(LimitsConfig::default().within_descriptors(128 + 2 * 3));
    let listener = loopback();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, Arc::clone(&limits), drain.watch(), echo));
    let mut first = TcpStream::connect(address).await.unwrap();
    let mut second = TcpStream::connect(address).await.unwrap();
    assert_eq!(
        (
            answers(&mut first).await.unwrap(),
            answers(&mut second).await.unwrap()
        ),
        (9, 9)
    );
    let mut third = TcpStream::connect(address).await.unwrap();
    third.write_u8(5).await.unwrap();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(limits.open(), 2, "the third one waits");
    drop(first);
    assert_eq!(
        third.read_u8().await.unwrap(),
        5,
        "and is served when another one ends"
    );
}

#[tokio::test]
async fn listeners_that_wait_for_their_next_connections_share_the_last_room() {
    let drain = Drain::new();
    let limits = Limits::new(LimitsConfig {
        pause_at: Some(1),
        ..LimitsConfig::default()
    });
    let listeners = [loopback(), loopback(), loopback()];
    let addresses = listeners.each_ref().map(|one| one.local_addr().unwrap());
    let mut loops = Vec::new();
    for listener in listeners {
        loops.push(tokio::spawn(serve(
            listener,
            Arc::clone(&limits),
            drain.watch(),
            echo,
        )));
    }
    // All of them have seen that there is room.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let mut first = TcpStream::connect(addresses[0]).await.unwrap();
    assert_eq!(answers(&mut first).await.unwrap(), 9);
    let mut second = TcpStream::connect(addresses[1]).await.unwrap();
    second.write_u8(5).await.unwrap();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(limits.open(), 1, "the second one waits");
    drop(first);
    assert_eq!(second.read_u8().await.unwrap(), 5);
    let mut third = TcpStream::connect(addresses[2]).await.unwrap();
    third.write_u8(5).await.unwrap();
    drain.start();
    for accepting in loops {
        accepting.await.unwrap();
    }
    let error = third.read_u8().await.unwrap_err();
    assert_eq!(
        error.kind(),
        io::ErrorKind::ConnectionReset,
        "not served any more"
    );
}

/// Fails as scripted, then accepts from a real listener.
struct Scripted {
    errors: Mutex<VecDeque<i32>>,
    listener: TcpListener,
}

impl Listener for Scripted {
    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let error = self.errors.lock().unwrap().pop_front();
        match error {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => self.listener.accept().await,
        }
    }
}

#[tokio::test]
async fn accepting_survives_lack_of_descriptors_and_broken_connections() {
    let drain = Drain::new();
    let limits = Limits::new(LimitsConfig::default());
    let listener = Scripted {
        errors: Mutex::new(VecDeque::from([
            libc::EMFILE,
            libc::ECONNABORTED,
            libc::ENFILE,
            libc::EPROTO,
        ])),
        listener: loopback(),
    };
    let address = listener.listener.local_addr().unwrap();
    let watch = drain.watch();
    let of_loop = Arc::clone(&limits);
    tokio::spawn(async move { accept_loop(&listener, &of_loop, &watch, echo).await });
    let mut client = TcpStream::connect(address).await.unwrap();
    assert_eq!(answers(&mut client).await.unwrap(), 9);
    let mut registry = prometheus_client::registry::Registry::default();
    limits.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains("accept_pauses_total 2"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_lasting_lack_of_descriptors_does_not_spin() {
    let drain = Drain::new();
    let watch = drain.watch();
    let listener = Scripted {
        errors: Mutex::new(vec![libc::EMFILE; 1000].into()),
        listener: loopback(),
    };
    let limits = Limits::new(LimitsConfig::default());
    let ended = tokio::time::timeout(
        Duration::from_mins(1),
        accept_loop(&listener, &limits, &watch, echo),
    )
    .await;
    assert!(ended.is_err(), "the loop goes on");
    let tries = 1000 - listener.errors.lock().unwrap().len();
    assert!((60..80).contains(&tries), "{tries} tries in a minute");
}
