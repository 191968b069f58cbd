//! What hyper's server makes of guarded requests.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::advance;

use super::super::super::handle::Turn;
use super::super::super::head::offers_upgrade;
use super::*;

/// What the service saw of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    line: String,
    fields: Vec<(String, Vec<u8>)>,
    body: Result<Vec<u8>, Option<Violation>>,
    violation: Option<Violation>,
    /// Whether the connection ends after it, by the request.
    closes: bool,
}

type Log = Arc<Mutex<Vec<Seen>>>;

/// A body that holds the turn, as the real one does.
struct Answer(
    Full<Bytes>,
    #[expect(dead_code, reason = "dropped with the body")] Turn,
);

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// An echo of the path; `/upgrade` switches protocols and echoes in capitals; `/wait` waits for the gate.
async fn answer(
    request: Request<Incoming>,
    handle: RequestHandle,
    log: Log,
    gate: Arc<Notify>,
) -> Response<Answer> {
    let turn = handle.begin();
    let line = format!("{} {}", request.method(), request.uri());
    let fields = request
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
        .collect();
    let connection = request.headers().get(header::CONNECTION);
    let closes = request.version() == Version::HTTP_10 || connection.is_some_and(|value| value == "close");
    let seen = Seen {
        closes,
        line,
        fields,
        body: Ok(Vec::new()),
        violation: turn.violation(),
    };
    log.lock().unwrap().push(seen);
    let path = request.uri().path().to_owned();
    if turn.violation().is_some() {
        let refused = Response::builder()
            .status(StatusCode::BAD_REQUEST)
            .header(header::CONNECTION, "close");
        return refused.body(Answer(Full::from("refused"), turn)).unwrap();
    }
    if path == "/upgrade" && offers_upgrade(request.version(), request.headers()) {
        turn.upgraded();
        tokio::spawn(shout(hyper::upgrade::on(request)));
        let switching = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
        let switching = switching
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, "shout");
        return switching.body(Answer(Full::default(), turn)).unwrap();
    }
    if path == "/wait" {
        gate.notified().await;
    }
    let body = request.into_body().collect().await;
    let body = body
        .map(|body| body.to_bytes().to_vec())
        .map_err(|error| Violation::of(&error));
    log.lock().unwrap().last_mut().unwrap().body = body;
    Response::new(Answer(Full::from(format!("[{path}]")), turn))
}

async fn shout(upgrade: hyper::upgrade::OnUpgrade) {
    let mut io = TokioIo::new(upgrade.await.unwrap());
    let mut said = Vec::new();
    io.read_to_end(&mut said).await.unwrap();
    io.write_all(&said.to_ascii_uppercase()).await.unwrap();
    io.shutdown().await.unwrap();
}

struct Server {
    client: DuplexStream,
    log: Log,
    gate: Arc<Notify>,
    task: JoinHandle<()>,
}

fn serve() -> Server {
    serve_with(256 * 1024)
}

fn serve_with(buffer: usize) -> Server {
    let (client, near) = duplex(buffer);
    let (log, gate, task) = serve_on(near);
    Server {
        client,
        log,
        gate,
        task,
    }
}

fn serve_on<IO>(near: IO) -> (Log, Arc<Notify>, JoinHandle<()>)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (log, gate) = (Log::default(), Arc::new(Notify::new()));
    let (seen, open) = (log.clone(), gate.clone());
    let task = tokio::spawn(async move {
        let (mut guard, handle) = RequestGuard::new(near, Limits::default(), Deadlines::default());
        if guard.protocol().await.unwrap() != Protocol::Http1 {
            return;
        }
        let service = service_fn(move |request| {
            let answer = answer(request, handle.clone(), seen.clone(), open.clone());
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let mut builder = http1::Builder::new();
        let connection = builder
            .max_headers(256)
            .serve_connection(TokioIo::new(guard), service);
        // An error is the client's fault in all these tests, and seen by the client.
        let _ = connection.with_upgrades().await;
    });
    (log, gate, task)
}

impl Server {
    async fn say(&mut self, bytes: &[u8]) {
        self.client.write_all(bytes).await.unwrap();
    }

    async fn read_to_end(&mut self) -> String {
        let mut all = Vec::new();
        self.client.read_to_end(&mut all).await.unwrap();
        String::from_utf8(all).unwrap()
    }

    /// Reads until `end` has come.
    async fn read_until(&mut self, end: &str) -> String {
        let mut all = String::new();
        while !all.ends_with(end) {
            all.push(char::from(self.client.read_u8().await.unwrap()));
        }
        all
    }

    fn seen(&self) -> Vec<Seen> {
        self.log.lock().unwrap().clone()
    }
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes()
}

#[tokio::test(start_paused = true)]
async fn hyper_refuses_nothing_that_the_guard_accepts() {
    for case in corpus::requests() {
        let mut server = serve();
        server.say(&case.bytes).await;
        server.client.shutdown().await.unwrap();
        server.read_to_end().await;
        let violations: Vec<_> = server.seen().into_iter().map(|seen| seen.violation).collect();
        let bodies: Vec<_> = server.seen().into_iter().map(|seen| seen.body.err()).collect();
        let expected = match case.verdict {
            Verdict::Accept(count) => vec![None; count],
            Verdict::Reject(violation) => vec![Some(violation)],
            Verdict::RejectAfter(count, violation) => [vec![None; count], vec![Some(violation)]].concat(),
            Verdict::Break(violation) => {
                assert_eq!(bodies, [Some(Some(violation))], "{}", case.name);
                continue;
            }
        };
        assert_eq!(violations, expected, "{}", case.name);
        assert!(bodies.iter().all(Option::is_none), "{}", case.name);
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_and_a_refusal_takes_its_turn() {
    let mut server = serve();
    server
        .say(
            &[
                get("/wait"),
                get("/2"),
                b"GET /3 HTTP/1.1\nHost: a\n\n".to_vec(),
                get("/4"),
            ]
            .concat(),
        )
        .await;
    server.gate.notify_one();
    let answers = server.read_to_end().await;
    let places: Vec<_> = ["[/wait]", "[/2]", "refused"]
        .map(|text| answers.find(text).expect(text))
        .into();
    assert!(places.is_sorted(), "{answers}");
    let violations: Vec<_> = server.seen().into_iter().map(|seen| seen.violation).collect();
    assert_eq!(violations, [None, None, Some(Violation::BareLineFeed)]);
}

#[tokio::test]
async fn a_refusal_that_comes_while_hyper_answers_waits_for_its_turn() {
    let mut server = serve();
    server.say(&get("/wait")).await;
    while server.seen().is_empty() {
        tokio::task::yield_now().await;
    }
    server.say(b"GET / HTTP/1.1\r\n\r\n").await;
    tokio::task::yield_now().await;
    server.gate.notify_one();
    let answers = server.read_to_end().await;
    assert!(answers.find("[/wait]") < answers.find("refused"), "{answers}");
    assert_eq!(server.seen()[1].violation, Some(Violation::MissingHost));
}

#[tokio::test]
async fn a_refused_client_that_still_sends_can_read_the_answer() {
    let mut server = serve_with(16 * 1024);
    let body = vec![b'x'; 100_000];
    let bad = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\nTransfer-Encoding: chunked\r\n\r\n";
    server.say(bad).await;
    server.say(&body).await;
    server.client.shutdown().await.unwrap();
    assert!(server.read_to_end().await.ends_with("refused"));
}

#[tokio::test(start_paused = true)]
async fn a_refused_client_is_not_listened_to_for_long() {
    let mut server = serve();
    server.say(b"\x16\x03\x01").await;
    assert!(server.read_to_end().await.ends_with("refused"));
    let begin = Instant::now();
    server.task.await.unwrap();
    assert!(begin.elapsed() <= LINGER + Duration::from_millis(1));
}

#[tokio::test]
async fn websocket_bytes_behind_the_request_reach_the_upgraded_side() {
    let mut server = serve();
    let request = b"GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\nglued\0";
    server.say(request).await;
    assert!(server.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 101 "));
    server.say(b" and GET / HTTP/1.1\n\n").await;
    server.client.shutdown().await.unwrap();
    assert_eq!(server.read_to_end().await, "GLUED\0 AND GET / HTTP/1.1\n\n");
}

#[tokio::test]
async fn requests_behind_a_declined_upgrade_are_checked_again() {
    let mut server = serve();
    let declined = b"GET /other HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n".to_vec();
    server
        .say(
            &[
                declined,
                get("/2"),
                b"GET /3 HTTP/1.1\r\nHost : a\r\n\r\n".to_vec(),
            ]
            .concat(),
        )
        .await;
    let answers = server.read_to_end().await;
    assert!(
        answers.contains("[/other]") && answers.contains("[/2]") && answers.ends_with("refused"),
        "{answers}"
    );
    assert_eq!(server.seen()[2].violation, Some(Violation::SpaceBeforeColon));
}

#[tokio::test]
async fn an_upgrade_is_only_for_the_request_that_offered_it() {
    let mut server = serve();
    let offer = b"POST /upgrade HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 2\r\n\r\nhi";
    server.say(&[&get("/wait")[..], offer, b"raw"].concat()).await;
    server.gate.notify_one();
    assert!(server.read_until("[/wait]").await.starts_with("HTTP/1.1 200 "));
    assert!(server.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 101 "));
    server.client.shutdown().await.unwrap();
    assert!(server.read_to_end().await.ends_with("RAW"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_before_its_upgrade_is_decided_is_noticed() {
    let mut server = serve();
    server
        .say(b"GET /wait HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nraw")
        .await;
    server.client.shutdown().await.unwrap();
    assert_eq!(server.read_to_end().await, "");
    server.task.await.unwrap();
}

#[tokio::test]
async fn what_comes_before_an_upgrade_is_decided_is_kept() {
    let mut server = serve();
    let offer = b"GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nraw";
    server.say(&get("/wait")).await;
    server.say(offer).await;
    server.client.shutdown().await.unwrap();
    while server.seen().is_empty() {
        tokio::task::yield_now().await;
    }
    server.gate.notify_one();
    assert!(server.read_to_end().await.ends_with("RAW"));
}

#[tokio::test]
async fn a_reset_ends_a_request_that_is_being_answered() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, accepted) = tokio::join!(
        TcpStream::connect(listener.local_addr().unwrap()),
        listener.accept()
    );
    let (mut client, server) = (client.unwrap(), serve_on(accepted.unwrap().0));
    client.write_all(&get("/wait")).await.unwrap();
    while server.0.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    socket2::SockRef::from(&client)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(client);
    server.2.await.unwrap();
}

#[tokio::test]
async fn a_client_that_half_closes_gets_its_answer_and_then_the_end() {
    let mut server = serve();
    server.say(&get("/wait")).await;
    server.client.shutdown().await.unwrap();
    while server.seen().is_empty() {
        tokio::task::yield_now().await;
    }
    tokio::task::yield_now().await;
    server.gate.notify_one();
    assert!(server.read_to_end().await.ends_with("[/wait]"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_half_closes_and_may_have_gone_is_given_up_in_time() {
    let mut server = serve();
    server.say(&get("/wait")).await;
    let begin = Instant::now();
    server.client.shutdown().await.unwrap();
    assert_eq!(server.read_to_end().await, "");
    assert_eq!(
        begin.elapsed().as_secs(),
        Deadlines::default().half_closed.as_secs()
    );
    server.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_to_a_half_closed_client_is_not_cut_while_it_moves() {
    // The buffer holds a fraction of the answer, which is read slowly.
    let path = format!("/{}", "a".repeat(1000));
    let server = serve_with(100);
    let request = get(&path);
    let (mut read, mut write) = tokio::io::split(server.client);
    let send = async {
        write.write_all(&request).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let receive = async {
        let (mut all, mut last) = (Vec::new(), Instant::now());
        let mut piece = [0; 100];
        loop {
            advance(Duration::from_secs(4)).await;
            match read.read(&mut piece).await.unwrap() {
                0 => return (String::from_utf8(all).unwrap(), last.elapsed()),
                len => all.extend_from_slice(&piece[..len]),
            }
            last = Instant::now();
        }
    };
    let (all, until_end) = tokio::join!(send, receive).1;
    // The end follows the last byte and does not wait for a deadline.
    assert_eq!(until_end, Duration::from_secs(4));
    assert!(all.ends_with(&format!("[{path}]")), "{all}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_ends_silently_after_its_last_answer() {
    let mut server = serve();
    let begin = Instant::now();
    advance(Duration::from_secs(50)).await;
    server.say(&get("/1")).await;
    server.read_until("[/1]").await;
    assert_eq!(begin.elapsed().as_secs(), 50);
    assert_eq!(server.read_to_end().await, "");
    assert_eq!(begin.elapsed().as_secs(), 110);
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_byte_ends_silently() {
    let mut server = serve();
    let begin = Instant::now();
    assert_eq!(server.read_to_end().await, "");
    assert_eq!(begin.elapsed().as_secs(), 60);
    assert_eq!(server.seen(), []);
}

#[tokio::test]
async fn a_client_that_connects_and_leaves_is_no_request() {
    let mut server = serve();
    server.client.shutdown().await.unwrap();
    assert_eq!(server.read_to_end().await, "");
    assert_eq!(server.seen(), []);
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_take_longer_than_an_idle_connection() {
    let mut server = serve();
    server.say(&get("/wait")).await;
    for _ in 0..10 {
        advance(Duration::from_secs(59)).await;
        tokio::task::yield_now().await;
    }
    server.gate.notify_one();
    assert!(server.read_until("[/wait]").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test(start_paused = true)]
async fn a_head_that_trickles_is_answered_in_time() {
    for before in ["", "/1"] {
        let mut server = serve();
        if !before.is_empty() {
            server.say(&get(before)).await;
            server.read_until("[/1]").await;
        }
        let begin = Instant::now();
        let trickle = b"GET / HTTP/1.1\r\nX-Slow: 123456789";
        for byte in trickle {
            server.say(&[*byte]).await;
            advance(Duration::from_millis(900)).await;
        }
        assert!(server.read_to_end().await.ends_with("refused"));
        assert!(begin.elapsed().as_secs() <= 31, "{:?}", begin.elapsed());
        assert_eq!(
            server.seen().last().unwrap().violation,
            Some(Violation::HeadTimeout)
        );
    }
}

#[tokio::test]
async fn http2_with_prior_knowledge_passes_untouched() {
    let (mut client, near) = duplex(1024);
    let (mut guard, _handle) = RequestGuard::new(near, Limits::default(), Deadlines::default());
    client.write_all(&PREFACE[..5]).await.unwrap();
    let (protocol, ()) = tokio::join!(guard.protocol(), async {
        tokio::task::yield_now().await;
        client.write_all(&PREFACE[5..]).await.unwrap();
        client.write_all(b"\0\0\0\x04").await.unwrap();
    });
    assert_eq!(protocol.unwrap(), Protocol::Http2);
    client.shutdown().await.unwrap();
    let mut all = Vec::new();
    guard.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, [PREFACE, b"\0\0\0\x04"].concat());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn hyper_sees_as_many_requests_as_the_guard_in_damaged_streams(
        index in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<usize>(), any::<u8>()), 1..4),
    ) {
        let cases: Vec<_> = corpus::requests().into_iter().filter(|case| case.bytes.len() < 4096).collect();
        let mut bytes = index.get(&cases).bytes.clone();
        for (at, byte) in damage {
            let len = bytes.len();
            bytes[at % len] = byte;
        }
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (turns, seen) = runtime.block_on(async {
            let (_, turns, _) = pass(Script::whole(&bytes), 8192);
            let mut server = serve();
            server.say(&bytes).await;
            server.client.shutdown().await.unwrap();
            server.read_to_end().await;
            (turns, server.seen())
        });
        let violations: Vec<_> = seen.iter().map(|seen| seen.violation).collect();
        // What follows a request that ends the connection is not looked at.
        prop_assert!(turns.starts_with(&violations), "{:?} {:?}", turns, violations);
        let closed = seen.last().is_some_and(|seen| seen.closes || seen.body.is_err());
        prop_assert!(turns.len() == violations.len() || closed, "{:?} {:?}", turns, violations);
    }
}

fn token() -> impl Strategy<Value = String> {
    "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}"
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![0x21_u8..=0x7e, 0x80_u8..=0xff], 0..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn hyper_sees_what_was_sent(
        method in "[A-Z]{1,10}",
        target in "/[!$-;=@-Z_a-z~|]{0,20}(\\?[!$-;=?-~]{0,20})?",
        fields in prop::collection::vec((token(), value()), 0..10),
        body in prop::option::of(prop::collection::vec(any::<u8>(), 0..200)),
        piece in 1_usize..100,
    ) {
        prop_assume!(method != "CONNECT");
        let framing = ["host", "connection", "upgrade", "expect", "content-length", "transfer-encoding"];
        prop_assume!(fields.iter().all(|(name, _)| !framing.contains(&name.to_ascii_lowercase().as_str())));
        let mut bytes = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n").into_bytes();
        for (name, value) in &fields {
            bytes.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        if let Some(body) = &body {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body.as_deref().unwrap_or_default());

        let runtime = runtime();
        let seen = runtime.block_on(async {
            let mut server = serve();
            for piece in bytes.chunks(piece) {
                server.say(piece).await;
                tokio::task::yield_now().await;
            }
            server.client.shutdown().await.unwrap();
            server.read_to_end().await;
            server.seen()
        });
        prop_assert_eq!(seen.len(), 1);
        prop_assert_eq!(&seen[0].line, &format!("{method} {target}"));
        prop_assert_eq!(seen[0].violation, None);
        prop_assert_eq!(&seen[0].body, &Ok(body.unwrap_or_default()));
        for (name, value) in fields {
            let found = seen[0].fields.iter().any(|(n, v)| *n == name.to_ascii_lowercase() && *v == value);
            prop_assert!(found, "{} is missing", name);
        }
    }
}

#[test]
fn the_replacement_is_a_request_like_any_other() {
    let runtime = runtime();
    let _context = runtime.enter();
    let (delivered, turns, end) = pass(Script::whole(REPLACEMENT), 100);
    assert_eq!(
        (delivered.as_slice(), turns, end),
        (REPLACEMENT, vec![None], None)
    );
}
