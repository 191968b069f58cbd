use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;
use crate::relay::block::BLOCK_SIZE;

const HALF_CLOSE: Duration = Duration::from_secs(5);

/// The far ends of a relay that runs: the application's, the target's, and the result.
fn start(limits: Limits, capacity: usize) -> (DuplexStream, DuplexStream, JoinHandle<End>) {
    let (app, mut near_app) = duplex(capacity);
    let (target, mut near_target) = duplex(capacity);
    let relay = tokio::spawn(async move { relay(&mut near_app, &mut near_target, limits, &()).await });
    (app, target, relay)
}

fn half_close() -> Limits {
    Limits {
        half_close: HALF_CLOSE,
        idle: None,
    }
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_hours(1), future)
        .await
        .expect("the relay must not hang")
}

#[tokio::test(start_paused = true)]
async fn a_silent_target_is_given_up_after_the_end_of_the_app() {
    let (mut app, mut target, relay) = start(half_close(), 64);
    let begin = Instant::now();
    app.shutdown().await.unwrap();
    assert_eq!(
        target.read(&mut [0]).await.unwrap(),
        0,
        "the end is passed on at once"
    );
    assert!(matches!(within(relay).await.unwrap(), End::HalfCloseTimeout));
    assert_eq!(begin.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_silent_app_is_given_up_after_the_end_of_the_target() {
    let (mut app, mut target, relay) = start(half_close(), 64);
    target.shutdown().await.unwrap();
    assert_eq!(app.read(&mut [0]).await.unwrap(), 0);
    assert!(matches!(within(relay).await.unwrap(), End::HalfCloseTimeout));
}

#[tokio::test(start_paused = true)]
async fn the_relay_ends_when_both_sides_have_ended() {
    let (mut app, mut target, relay) = start(half_close(), 64);
    app.write_all(b"question").await.unwrap();
    app.shutdown().await.unwrap();
    let mut question = String::new();
    target.read_to_string(&mut question).await.unwrap();
    target.write_all(b"answer").await.unwrap();
    target.shutdown().await.unwrap();
    let mut answer = String::new();
    app.read_to_string(&mut answer).await.unwrap();
    assert_eq!((&*question, &*answer), ("question", "answer"));
    assert!(matches!(within(relay).await.unwrap(), End::Closed));
}

/// A timer that counts from the end of one side alone cuts live transfers:
/// <https://github.com/shadowsocks/shadowsocks-rust/issues/1195>.
#[tokio::test(start_paused = true)]
async fn a_slow_transfer_survives_the_end_of_the_other_side() {
    let (mut app, mut target, relay) = start(half_close(), 64);
    app.shutdown().await.unwrap();
    for byte in 0..100 {
        tokio::time::sleep(Duration::from_secs(4)).await;
        target.write_u8(byte).await.unwrap();
        assert_eq!(app.read_u8().await.unwrap(), byte);
    }
    target.shutdown().await.unwrap();
    assert!(matches!(within(relay).await.unwrap(), End::Closed));
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_lives_for_ever_without_a_limit() {
    let (mut app, mut target, _relay) = start(half_close(), 64);
    tokio::time::sleep(Duration::from_hours(100)).await;
    app.write_u8(1).await.unwrap();
    assert_eq!(target.read_u8().await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_idle_limit_counts_from_the_last_byte() {
    let limits = Limits {
        idle: Some(Duration::from_secs(10)),
        ..half_close()
    };
    let (mut app, mut target, relay) = start(limits, 64);
    let begin = Instant::now();
    tokio::time::sleep(Duration::from_secs(9)).await;
    app.write_u8(1).await.unwrap();
    target.read_u8().await.unwrap();
    assert!(matches!(within(relay).await.unwrap(), End::IdleTimeout));
    assert_eq!(begin.elapsed().as_secs(), 19);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_holds_up_the_sender() {
    let (mut app, _target, relay) = start(half_close(), 1024);
    let mut sent = 0;
    while let Ok(written) = tokio::time::timeout(Duration::from_secs(1), app.write(&[7; 4096])).await {
        sent += written.unwrap();
    }
    assert!(sent <= BLOCK_SIZE + 2 * 1024, "{sent} bytes were read ahead");
    assert!(!relay.is_finished());
}

/// The near and the far end of a connection over loopback.
async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (near, listener.accept().await.unwrap().0)
}

/// Nothing is read from the application then, so its reset does not show by itself.
#[tokio::test(start_paused = true)]
async fn a_reset_is_seen_while_the_other_side_takes_nothing() {
    let ((mut near_app, app), (mut near_target, _target)) = (tcp_pair().await, tcp_pair().await);
    let sending = async {
        // It lasts until all buffers on the way are full.
        while let Ok(written) = tokio::time::timeout(Duration::from_secs(1), app.writable()).await {
            written.unwrap();
            let _ = app.try_write(&[7; 10_000]);
        }
        crate::accept::reset(app);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        end = relay(&mut near_app, &mut near_target, half_close(), &()) => {
            assert!(matches!(end, End::Broken { side: Side::App, .. }), "{end:?}");
        }
        () = sending => {}
    }
}

#[derive(Debug, Clone)]
struct Plan {
    up: Vec<usize>,
    down: Vec<usize>,
    capacity: usize,
}

fn plans() -> impl Strategy<Value = Plan> {
    let chunks = || prop::collection::vec(prop_oneof![1..20usize, 1000..70_000usize], 0..12);
    (chunks(), chunks(), prop_oneof![1..100usize, 4096..200_000usize]).prop_map(|(up, down, capacity)| Plan {
        up,
        down,
        capacity: capacity.max(16),
    })
}

fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length)
        .map(|at| u8::try_from(at % 251).unwrap_or(0).wrapping_add(seed))
        .collect()
}

/// Sends the chunks, ends, and returns all that comes back.
async fn converse(stream: DuplexStream, chunks: Vec<usize>, seed: u8) -> Vec<u8> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let bytes = pattern(chunks.iter().sum(), seed);
    let send = async {
        let mut rest = &bytes[..];
        for chunk in chunks {
            let (now, later) = rest.split_at(chunk);
            writer.write_all(now).await.unwrap();
            tokio::task::yield_now().await;
            rest = later;
        }
        writer.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let ((), read) = tokio::join!(send, reader.read_to_end(&mut received));
    read.unwrap();
    received
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_byte_arrives_once_and_in_order(plan in plans()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (app, target, relay) = start(half_close(), plan.capacity);
            let (back, forth) = tokio::join!(
                converse(app, plan.up.clone(), 1),
                converse(target, plan.down.clone(), 100)
            );
            assert!(back == pattern(plan.down.iter().sum(), 100));
            assert!(forth == pattern(plan.up.iter().sum(), 1));
            assert!(matches!(within(relay).await.unwrap(), End::Closed));
        });
    }
}
