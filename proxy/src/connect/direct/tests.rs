use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpListener;
use tokio::time::Instant;

use super::*;

const TIMEOUT: Duration = Duration::from_secs(5);

async fn dial(config: Config, host: &str, port: u16) -> Result<TcpStream, Error> {
    Direct::new(config)
        .dial(host, port, &SocketOptions::default(), TIMEOUT)
        .await
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[tokio::test]
async fn a_name_is_resolved_and_reached() {
    let (_listener, port) = listener().await;
    let stream = dial(Config::default(), "localhost", port).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap().port(), port);
}

#[tokio::test]
async fn a_closed_port_is_a_refused_connection() {
    let (listener, port) = listener().await;
    drop(listener);
    assert!(matches!(
        dial(Config::default(), "127.0.0.1", port).await,
        Err(Error::Refused(_))
    ));
}

#[tokio::test]
async fn a_name_that_cannot_exist_is_not_found() {
    assert!(matches!(
        dial(Config::default(), "a..b", 80).await,
        Err(Error::HostNotFound(_))
    ));
}

#[tokio::test]
async fn an_address_that_leads_back_is_not_allowed() {
    let (listener, port) = listener().await;
    let config = Config::default();
    config.own.replace([], [listener.local_addr().unwrap()]);
    for host in ["127.0.0.1", "localhost", "::ffff:127.0.0.1", "0.0.0.0"] {
        // `localhost` may have an IPv6 address too, where nobody listens.
        let error = dial(config.clone(), host, port).await.unwrap_err();
        assert!(
            matches!(
                error,
                Error::AddressNotAllowed | Error::Refused(_) | Error::NoLocalPort(_)
            ),
            "{host}: {error:?}"
        );
        assert!(
            host == "localhost" || matches!(error, Error::AddressNotAllowed),
            "{host}: {error:?}"
        );
    }
    config.own.replace(["127.66.0.1".parse().unwrap()], []);
    assert!(matches!(
        dial(config.clone(), "127.66.0.1", port).await,
        Err(Error::AddressNotAllowed)
    ));
    assert!(
        dial(config, "127.0.0.1", port).await.is_ok(),
        "no longer a listener of ours"
    );
}

#[tokio::test]
async fn loopback_can_be_forbidden() {
    let (_listener, port) = listener().await;
    for host in ["127.0.0.1", "::1", "localhost", "0.0.0.0", "::ffff:127.1.2.3"] {
        let config = Config {
            forbid_loopback: true,
            ..Config::default()
        };
        assert!(
            matches!(dial(config, host, port).await, Err(Error::AddressNotAllowed)),
            "{host}"
        );
    }
}

#[tokio::test]
async fn every_socket_is_shown_to_the_hook_first() {
    let (_listener, port) = listener().await;
    let shown = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&shown);
    let hook: SocketHook = Arc::new(move |socket| {
        assert!(
            socket2::SockRef::from(&socket).peer_addr().is_err(),
            "not connected yet"
        );
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(())
    });
    dial(
        Config {
            socket_hook: Some(hook),
            ..Config::default()
        },
        "127.0.0.1",
        port,
    )
    .await
    .unwrap();
    assert_eq!(shown.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn the_options_of_the_destination_are_set() {
    let (_listener, port) = listener().await;
    let options = SocketOptions {
        nodelay: false,
        keepalive: false,
        linger: Some(Duration::ZERO),
        send_buffer: Some(20_000),
        receive_buffer: Some(30_000),
        idle_timeout: None,
    };
    let stream = Direct::new(Config::default())
        .dial("127.0.0.1", port, &options, TIMEOUT)
        .await
        .unwrap();
    let socket = socket2::SockRef::from(&stream);
    assert!(!socket.tcp_nodelay().unwrap());
    assert!(!socket.keepalive().unwrap());
    assert_eq!(socket.linger().unwrap(), Some(Duration::ZERO));
    // The kernel doubles both for its bookkeeping, see socket(7).
    assert_eq!(
        (
            socket.send_buffer_size().unwrap(),
            socket.recv_buffer_size().unwrap()
        ),
        (40_000, 60_000)
    );

    let stream = dial(Config::default(), "127.0.0.1", port).await.unwrap();
    let socket = socket2::SockRef::from(&stream);
    assert!(socket.tcp_nodelay().unwrap());
    assert!(socket.keepalive().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap().as_secs(), 60);
}

fn addresses() -> Vec<SocketAddr> {
    ["[2001:db8::1]:1", "192.0.2.1:1", "192.0.2.2:1"]
        .map(|address| address.parse().unwrap())
        .into()
}

#[tokio::test(start_paused = true)]
async fn the_next_address_is_tried_after_a_head_start() {
    let begin = Instant::now();
    let won = race(addresses(), |address| async move {
        if address.is_ipv6() {
            std::future::pending::<()>().await;
        }
        Ok(address)
    });
    assert_eq!(won.await.unwrap(), addresses()[1]);
    assert_eq!(begin.elapsed(), HEAD_START);
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_the_next_address_is_tried_at_once_and_in_order() {
    let begin = Instant::now();
    let tried = Mutex::new(Vec::new());
    let error = race(addresses(), |address| {
        tried.lock().unwrap().push(address);
        let errno = if address.is_ipv6() {
            libc::ENETUNREACH
        } else {
            libc::ECONNREFUSED
        };
        std::future::ready(Err::<(), _>(io::Error::from_raw_os_error(errno)))
    })
    .await
    .unwrap_err();
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert_eq!(*tried.lock().unwrap(), addresses());
    assert_eq!(
        error.kind(),
        io::ErrorKind::ConnectionRefused,
        "says more than a missing route"
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_address_may_still_win() {
    let won = race(addresses(), |address| async move {
        let delay = if address.is_ipv6() { 300 } else { 9000 };
        tokio::time::sleep(Duration::from_millis(delay)).await;
        Ok(address)
    });
    assert_eq!(won.await.unwrap(), addresses()[0]);
}

#[test]
fn errors_of_the_kernel_have_their_class() {
    let class = |errno| classify(io::Error::from_raw_os_error(errno), TIMEOUT);
    assert!(matches!(class(libc::EADDRNOTAVAIL), Error::NoLocalPort(_)));
    assert!(matches!(class(libc::ECONNREFUSED), Error::Refused(_)));
    assert!(matches!(class(libc::ECONNRESET), Error::Reset(_)));
    assert!(matches!(class(libc::EHOSTUNREACH), Error::Unreachable(_)));
    assert!(matches!(class(libc::ENETUNREACH), Error::Unreachable(_)));
    assert!(matches!(class(libc::ETIMEDOUT), Error::TimedOut(_)));
    assert!(matches!(class(libc::EMFILE), Error::Io(_)));
}
