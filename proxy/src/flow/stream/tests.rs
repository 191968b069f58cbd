use std::net::SocketAddr;

use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::accept::{Limits, LimitsConfig, bind, reset};
use crate::connect::direct::{self, Direct, OwnAddresses};
use crate::lifecycle::drain::{Drain, Drained};
use crate::resolve::destination::SocketOptions;
use crate::telemetry::connections::State;
use crate::telemetry::logging::CONNECTION;

/// A TCP destination that is served on loopback, and its target.
struct Setup {
    address: SocketAddr,
    target: TcpListener,
    service: Arc<TcpService>,
    drain: Drain,
    /// Of this destination alone.
    part: Drain,
    own: Arc<OwnAddresses>,
    connections: Connections,
    metrics: TcpMetrics,
}

impl Setup {
    async fn new() -> Self {
        Self::with(SocketOptions::default(), TcpSettings::default()).await
    }

    async fn with(socket: SocketOptions, settings: TcpSettings) -> Self {
        let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let own = Arc::<OwnAddresses>::default();
        let dialer = Direct::new(direct::Config {
            own: Arc::clone(&own),
            ..direct::Config::default()
        });
        let (connections, metrics) = (Connections::default(), TcpMetrics::default());
        let parts = TcpParts {
            dialer: Arc::new(dialer),
            connections: connections.clone(),
            metrics: metrics.clone(),
            settings,
            behalf: None,
        };
        let destination = TcpDestination {
            host: "127.0.0.1".into(),
            port: target.local_addr().unwrap().port(),
            connect_timeout: Duration::from_secs(5),
            socket,
        };
        let service = Arc::new(TcpService::new(
            DestinationName::new_unchecked("db"),
            Arc::new(destination),
            parts,
        ));
        let drain = Drain::new();
        let part = drain.child();
        let served = Arc::clone(&service);
        let handler = move |accepted| serve_connection(accepted, Arc::clone(&served));
        tokio::spawn(accept::serve(
            listener,
            Limits::new(LimitsConfig::default()),
            part.watch(),
            handler,
        ));
        Self {
            address,
            target,
            service,
            drain,
            part,
            own,
            connections,
            metrics,
        }
    }

    /// Both ends of a connection through the proxy.
    async fn connect(&self) -> (TcpStream, TcpStream) {
        let app = TcpStream::connect(self.address).await.unwrap();
        let (target, _) = self.target.accept().await.unwrap();
        eventually(|| {
            self.connections
                .snapshot()
                .iter()
                .all(|open| open.state != State::Dialling)
        })
        .await;
        (app, target)
    }

    fn metrics(&self) -> String {
        let mut registry = Registry::with_prefix("tp");
        self.metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    /// Waits until no connection is open.
    async fn idle(&self) {
        eventually(|| self.drain.held() <= 1).await;
    }
}

async fn eventually(condition: impl Fn() -> bool) {
    let watched = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), watched)
        .await
        .expect("it happens");
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| u8::try_from(at % 251).unwrap_or(0))
        .collect()
}

async fn assert_reset(stream: &mut TcpStream) {
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut [0]))
        .await
        .expect("an end");
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

/// As `printf req | nc -N host port` does it.
#[tokio::test]
async fn a_client_that_ends_after_its_request_gets_the_whole_answer() {
    let setup = Setup::new().await;
    let (mut app, mut target) = setup.connect().await;
    app.write_all(b"request").await.unwrap();
    app.shutdown().await.unwrap();
    let mut request = Vec::new();
    target.read_to_end(&mut request).await.unwrap();
    assert_eq!(request, b"request");
    let answer = pattern(10_000_000);
    let expected = answer.clone();
    tokio::spawn(async move { target.write_all(&answer).await.unwrap() });
    let mut received = Vec::new();
    app.read_to_end(&mut received).await.unwrap();
    assert!(received == expected);
    setup.idle().await;
    let metrics = setup.metrics();
    assert!(
        metrics.contains(r#"tp_tcp_connections_ended_total{result="closed"} 1"#),
        "{metrics}"
    );
    assert!(
        metrics.contains(r#"tp_tcp_bytes_total{from="target"} 10000000"#),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_server_that_ends_first_still_gets_everything() {
    let setup = Setup::new().await;
    let (mut app, mut target) = setup.connect().await;
    target.shutdown().await.unwrap();
    assert_eq!(app.read(&mut [0]).await.unwrap(), 0);
    let upload = pattern(10_000_000);
    let expected = upload.clone();
    tokio::spawn(async move { app.write_all(&upload).await.unwrap() });
    let mut received = Vec::new();
    target.read_to_end(&mut received).await.unwrap();
    assert!(received == expected);
}

#[tokio::test]
async fn a_server_may_speak_first() {
    let setup = Setup::new().await;
    let (mut app, mut target) = setup.connect().await;
    target.write_all(b"220 ready\r\n").await.unwrap();
    let mut greeting = [0; 11];
    app.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"220 ready\r\n");
}

#[tokio::test]
async fn a_reset_of_the_target_resets_the_app() {
    let setup = Setup::new().await;
    let (mut app, target) = setup.connect().await;
    reset(target);
    assert_reset(&mut app).await;
    setup.idle().await;
    let metrics = setup.metrics();
    assert!(metrics.contains(r#"{result="target_reset"} 1"#), "{metrics}");
}

#[tokio::test]
async fn a_reset_of_the_app_resets_the_target() {
    let setup = Setup::new().await;
    let (app, mut target) = setup.connect().await;
    reset(app);
    assert_reset(&mut target).await;
    setup.idle().await;
    assert!(setup.metrics().contains(r#"{result="app_reset"} 1"#));
}

/// A server that closes with unread data resets, but its answer went out before.
#[tokio::test]
async fn an_answer_arrives_although_a_reset_follows_it() {
    let setup = Setup::new().await;
    let (mut app, mut target) = setup.connect().await;
    app.write_all(b"never read").await.unwrap();
    assert_eq!(target.peek(&mut [0]).await.unwrap(), 1);
    target.write_all(b"no").await.unwrap();
    drop(target);
    let mut answer = [0; 2];
    app.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"no");
    assert_reset(&mut app).await;
}

/// The server has closed and only answers what comes later with a reset.
#[tokio::test]
async fn a_reset_after_the_end_of_the_target_resets_the_app() {
    let setup = Setup::new().await;
    let (mut app, target) = setup.connect().await;
    drop(target);
    assert_eq!(app.read(&mut [0]).await.unwrap(), 0);
    app.write_all(b"too late").await.unwrap();
    setup.idle().await;
    assert_eq!(
        app.take_error().unwrap().unwrap().kind(),
        io::ErrorKind::BrokenPipe
    );
    let metrics = setup.metrics();
    assert!(metrics.contains(r#"{result="target_reset"} 1"#), "{metrics}");
}

#[tokio::test]
async fn a_reset_after_the_end_of_the_app_resets_the_target() {
    let setup = Setup::new().await;
    let (app, mut target) = setup.connect().await;
    drop(app);
    assert_eq!(target.read(&mut [0]).await.unwrap(), 0);
    target.write_all(b"too late").await.unwrap();
    setup.idle().await;
    assert_eq!(
        target.take_error().unwrap().unwrap().kind(),
        io::ErrorKind::BrokenPipe
    );
}

#[tokio::test]
async fn an_app_is_reset_when_the_target_is_down() {
    let Setup {
        address,
        target,
        metrics,
        drain: _drain,
        part: _part,
        ..
    } = Setup::new().await;
    drop(target);
    let mut app = TcpStream::connect(address).await.unwrap();
    assert_reset(&mut app).await;
    assert_eq!(metrics.total.get(), 1);
}

/// Once this ended as a loop: <https://github.com/semigodking/redsocks/issues/141>.
#[tokio::test]
async fn a_target_that_leads_back_is_refused() {
    let setup = Setup::new().await;
    setup.own.replace([], [setup.target.local_addr().unwrap()]);
    let mut app = TcpStream::connect(setup.address).await.unwrap();
    assert_reset(&mut app).await;
    setup.idle().await;
    let metrics = setup.metrics();
    assert!(
        metrics.contains(r#"tp_tcp_connections_ended_total{result="address_not_allowed"} 1"#),
        "{metrics}"
    );
    assert!(metrics.contains("tp_tcp_connections_total 1"), "{metrics}");
    assert!(metrics.contains("tp_open_tcp_connections 0"), "{metrics}");
}

#[tokio::test]
async fn an_idle_connection_is_closed_at_its_limit() {
    let socket = SocketOptions {
        idle_timeout: Some(Duration::from_millis(50)),
        ..SocketOptions::default()
    };
    let setup = Setup::with(socket, TcpSettings::default()).await;
    let (mut app, mut target) = setup.connect().await;
    assert_eq!(
        (
            app.read(&mut [0]).await.unwrap(),
            target.read(&mut [0]).await.unwrap()
        ),
        (0, 0)
    );
    setup.idle().await;
    assert!(setup.metrics().contains(r#"{result="idle_timeout"} 1"#));
}

#[tokio::test]
async fn silence_after_one_end_closes_both() {
    let settings = TcpSettings {
        half_close_timeout: Duration::from_millis(50),
    };
    let setup = Setup::with(SocketOptions::default(), settings).await;
    let (mut app, mut target) = setup.connect().await;
    app.shutdown().await.unwrap();
    assert_eq!(
        (
            app.read(&mut [0]).await.unwrap(),
            target.read(&mut [0]).await.unwrap()
        ),
        (0, 0)
    );
    setup.idle().await;
    assert!(setup.metrics().contains(r#"{result="half_close_timeout"} 1"#));
}

#[tokio::test]
async fn a_lingering_target_gets_all_bytes() {
    let socket = SocketOptions {
        linger: Some(Duration::from_secs(3)),
        ..SocketOptions::default()
    };
    let setup = Setup::with(socket, TcpSettings::default()).await;
    let (mut app, mut target) = setup.connect().await;
    app.write_all(b"last words").await.unwrap();
    drop(app);
    let mut received = String::new();
    target.read_to_string(&mut received).await.unwrap();
    assert_eq!(received, "last words");
}

#[tokio::test]
async fn a_drain_lets_connections_finish() {
    let setup = Setup::new().await;
    let (mut app, mut target) = setup.connect().await;
    let drain = Arc::new(setup.drain);
    let ending = tokio::spawn({
        let drain = Arc::clone(&drain);
        async move { drain.finish(Duration::from_secs(30)).await }
    });
    drain.watch().draining().await;
    app.write_all(b"late").await.unwrap();
    drop(app);
    let mut received = String::new();
    target.read_to_string(&mut received).await.unwrap();
    assert_eq!(received, "late");
    drop(target);
    assert_eq!(ending.await.unwrap(), Drained::Finished);
}

#[tokio::test]
async fn the_deadline_of_a_drain_resets_what_is_open() {
    let setup = Setup::new().await;
    let (mut app, mut target) = setup.connect().await;
    drop(setup.part);
    assert_eq!(
        setup.drain.finish(Duration::from_millis(20)).await,
        Drained::Cut(1)
    );
    assert_reset(&mut app).await;
    assert_reset(&mut target).await;
}

#[tokio::test]
async fn removing_a_destination_resets_its_connections_at_once() {
    let setup = Setup::new().await;
    let (mut app, mut target) = setup.connect().await;
    setup.part.revoke();
    assert_reset(&mut app).await;
    assert_reset(&mut target).await;
    assert!(!setup.drain.is_draining());
}

#[tokio::test]
async fn an_open_connection_shows_its_state_and_bytes() {
    let setup = Setup::new().await;
    let (mut app, mut target) = setup.connect().await;
    app.write_all(b"hello").await.unwrap();
    target.read_exact(&mut [0; 5]).await.unwrap();
    target.shutdown().await.unwrap();
    assert_eq!(app.read(&mut [0]).await.unwrap(), 0);
    let open = setup.connections.snapshot();
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].destination, "db");
    assert_eq!(open[0].source, app.local_addr().unwrap());
    assert_eq!(open[0].target, setup.target.local_addr().unwrap().to_string());
    assert_eq!(
        (open[0].bytes_from_app, open[0].state),
        (Some(5), State::TargetEnded)
    );
    assert_eq!(setup.metrics.open.get(), 1);
}

/// Ten thousand idle connections must not cost more than some ten megabytes: the future is what each
/// one keeps, since it has no buffer.
#[tokio::test]
async fn an_idle_connection_is_small() {
    let setup = Setup::new().await;
    let (stream, peer) = {
        let _app = TcpStream::connect(setup.target.local_addr().unwrap())
            .await
            .unwrap();
        setup.target.accept().await.unwrap()
    };
    let permit = Limits::new(LimitsConfig::default()).admit(peer.ip()).unwrap();
    let accepted = Accepted {
        id: 1,
        stream,
        peer,
        drain: setup.drain.watch(),
        permit,
    };
    let service = Arc::clone(&setup.service);
    let size = size_of_val(&serve_connection(accepted, service));
    assert!(size < 1500, "{size} bytes");
}

/// What is logged while the guard lives, on this thread.
#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl Log {
    fn start(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || log.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    /// The one line about connections.
    fn line(&self) -> String {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> = text.lines().filter(|line| line.contains(CONNECTION)).collect();
        assert_eq!(lines.len(), 1, "{text}");
        lines[0].to_owned()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::Write::write(&mut *self.0.lock().unwrap(), bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_end_of_a_connection_is_one_line() {
    let log = Log::default();
    let _guard = log.start();
    let setup = Setup::new().await;
    let (mut app, mut target) = setup.connect().await;
    app.write_all(b"hello").await.unwrap();
    app.shutdown().await.unwrap();
    target.read_to_string(&mut String::new()).await.unwrap();
    target.write_all(b"bye").await.unwrap();
    drop(target);
    app.read_to_string(&mut String::new()).await.unwrap();
    setup.idle().await;
    let line = log.line();
    let server = format!("server={}", setup.target.local_addr().unwrap());
    for part in [
        " INFO ",
        "destination=db",
        &server,
        "result=\"closed\"",
        "bytes_from_app=5",
        "bytes_from_target=3",
    ] {
        assert!(line.contains(part), "{part} is missing in: {line}");
    }
}

#[tokio::test]
async fn a_failed_connection_is_one_line_that_names_the_cause() {
    let log = Log::default();
    let _guard = log.start();
    let setup = Setup::new().await;
    setup.own.replace([], [setup.target.local_addr().unwrap()]);
    let mut app = TcpStream::connect(setup.address).await.unwrap();
    assert_reset(&mut app).await;
    setup.idle().await;
    let line = log.line();
    for part in [
        "ERROR ",
        "destination=db",
        "no connection to the target: Address not allowed.",
    ] {
        assert!(line.contains(part), "{part} is missing in: {line}");
    }
}
