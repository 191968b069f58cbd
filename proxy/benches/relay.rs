//! What relaying costs: CPU time per gigabyte and per small message, and memory per idle connection.
//!
//! All ways run in turn in one process, each in a thread of its own whose CPU time is read
//! (`RUSAGE_THREAD`), so that their ratios can be trusted also on a busy machine.
//!
//! ```text
//! cargo bench -p transparent-proxy --bench relay
//! ```

use std::fs;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeVal;
use tokio::io::{AsyncWriteExt, Interest, copy_bidirectional, copy_bidirectional_with_sizes};
use transparent_proxy::accept::raise_descriptor_limit;
use transparent_proxy::relay::tcp::{Limits, relay};

const ROUNDS: usize = 3;
const BULK_BYTES: u32 = 1 << 30;
const MESSAGES: u32 = 20_000;
/// Each takes four descriptors here; hard limits of 20,000 are common.
const IDLE_CONNECTIONS: u32 = 4_000;
const PIPE_SIZE: usize = 256 * 1024;

type Relaying = Pin<Box<dyn Future<Output = ()>>>;

struct Way {
    name: &'static str,
    run: fn(tokio::net::TcpStream, tokio::net::TcpStream) -> Relaying,
}

const WAYS: [Way; 5] = [
    Way {
        name: "tokio copy 8 KiB",
        run: |a, t| Box::pin(copy(a, t, None)),
    },
    Way {
        name: "tokio copy 64 KiB",
        run: |a, t| Box::pin(copy(a, t, Some(64 * 1024))),
    },
    Way {
        name: "tokio copy 256 KiB",
        run: |a, t| Box::pin(copy(a, t, Some(256 * 1024))),
    },
    Way {
        name: "relay",
        run: |a, t| Box::pin(ours(a, t)),
    },
    Way {
        name: "splice 256 KiB",
        run: |a, t| Box::pin(spliced(a, t)),
    },
];

async fn copy(mut app: tokio::net::TcpStream, mut target: tokio::net::TcpStream, size: Option<usize>) {
    let _ = match size {
        None => copy_bidirectional(&mut app, &mut target).await,
        Some(size) => copy_bidirectional_with_sizes(&mut app, &mut target, size, size).await,
    };
}

async fn ours(mut app: tokio::net::TcpStream, mut target: tokio::net::TcpStream) {
    relay(&mut app, &mut target, Limits::default(), &()).await;
}

async fn spliced(mut app: tokio::net::TcpStream, mut target: tokio::net::TcpStream) {
    let (app_in, app_out) = app.split();
    let (target_in, target_out) = target.split();
    let _ = tokio::join!(splice_lane(app_in, target_out), splice_lane(target_in, app_out));
}

async fn splice_lane(
    from: tokio::net::tcp::ReadHalf<'_>,
    mut to: tokio::net::tcp::WriteHalf<'_>,
) -> std::io::Result<()> {
    let (pipe_out, pipe_in) = nix::unistd::pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)?;
    fcntl(
        &pipe_in,
        FcntlArg::F_SETPIPE_SZ(i32::try_from(PIPE_SIZE).unwrap_or(i32::MAX)),
    )?;
    let flags = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
    loop {
        let source: &tokio::net::TcpStream = from.as_ref();
        let mut held = source
            .async_io(Interest::READABLE, || {
                Ok(splice(source, None, &pipe_in, None, PIPE_SIZE, flags)?)
            })
            .await?;
        if held == 0 {
            return to.shutdown().await;
        }
        while held > 0 {
            let sink: &tokio::net::TcpStream = to.as_ref();
            held -= sink
                .async_io(Interest::WRITABLE, || {
                    Ok(splice(&pipe_out, None, sink, None, held, flags)?)
                })
                .await?;
        }
    }
}

/// A relay in a thread of its own between one connection and `target`; yields its CPU time.
fn start(way: &Way, target: SocketAddr) -> Result<(TcpStream, thread::JoinHandle<Result<Duration>>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let run = way.run;
    let relaying = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            listener.set_nonblocking(true)?;
            let (app, _) = tokio::net::TcpListener::from_std(listener)?.accept().await?;
            let target = tokio::net::TcpStream::connect(target).await?;
            app.set_nodelay(true)?;
            target.set_nodelay(true)?;
            let before = cpu(&getrusage(UsageWho::RUSAGE_THREAD)?);
            run(app, target).await;
            Ok(cpu(&getrusage(UsageWho::RUSAGE_THREAD)?).saturating_sub(before))
        })
    });
    let app = TcpStream::connect(address)?;
    app.set_nodelay(true)?;
    Ok((app, relaying))
}

/// CPU time of the relay and of the whole process for a download.
fn bulk(way: &Way) -> Result<[f64; 2]> {
    let target = TcpListener::bind("127.0.0.1:0")?;
    let before = cpu(&getrusage(UsageWho::RUSAGE_SELF)?);
    let (mut app, relaying) = start(way, target.local_addr()?)?;
    let sending = thread::spawn(move || -> Result<()> {
        let (mut stream, _) = target.accept()?;
        let chunk = vec![7; 256 * 1024];
        for _ in 0..BULK_BYTES as usize / chunk.len() {
            stream.write_all(&chunk)?;
        }
        Ok(())
    });
    app.shutdown(Shutdown::Write)?;
    let mut buffer = vec![0; 256 * 1024];
    let mut received = 0;
    loop {
        match app.read(&mut buffer)? {
            0 => break,
            read => received += read,
        }
    }
    anyhow::ensure!(
        received == BULK_BYTES as usize,
        "{}: {received} bytes arrived",
        way.name
    );
    join(sending)?;
    let of_relay = join(relaying)?;
    let of_all = cpu(&getrusage(UsageWho::RUSAGE_SELF)?).saturating_sub(before);
    let gigabytes = f64::from(BULK_BYTES) / 1e9;
    Ok([
        of_relay.as_secs_f64() / gigabytes,
        of_all.as_secs_f64() / gigabytes,
    ])
}

/// CPU time of the relay in microseconds per small message that goes there and back.
fn messages(way: &Way) -> Result<f64> {
    let target = TcpListener::bind("127.0.0.1:0")?;
    let (mut app, relaying) = start(way, target.local_addr()?)?;
    let echoing = thread::spawn(move || -> Result<()> {
        let (mut stream, _) = target.accept()?;
        stream.set_nodelay(true)?;
        let mut message = [0; 64];
        while stream.read_exact(&mut message).is_ok() {
            stream.write_all(&message)?;
        }
        Ok(())
    });
    let mut message = [1; 64];
    for _ in 0..MESSAGES {
        app.write_all(&message)?;
        app.read_exact(&mut message)?;
    }
    drop(app);
    join(echoing)?;
    Ok(join(relaying)?.as_secs_f64() * 1e6 / f64::from(MESSAGES))
}

/// Memory of this process per connection that has moved a few bytes and is idle now.
fn idle_memory(way: &Way) -> Result<f64> {
    let target = TcpListener::bind("127.0.0.1:0")?;
    let target_address = target.local_addr()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let run = way.run;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let relaying = thread::spawn(move || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async move {
            listener.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let accepting = async {
                loop {
                    let (app, _) = listener.accept().await?;
                    let target = tokio::net::TcpStream::connect(target_address).await?;
                    tokio::task::spawn_local(run(app, target));
                }
            };
            tokio::select! { failed = accepting => failed, _ = stopped => Ok(()) }
        })
    });
    let before = resident_kib()?;
    let mut open = Vec::new();
    for _ in 0..IDLE_CONNECTIONS {
        let mut app = TcpStream::connect(address)?;
        let (mut there, _) = target.accept()?;
        app.write_all(&[1; 64])?;
        there.read_exact(&mut [0; 64])?;
        there.write_all(&[2; 64])?;
        app.read_exact(&mut [0; 64])?;
        open.extend([app, there]);
    }
    let used = resident_kib()? - before;
    drop(open);
    let _ = stop.send(());
    join(relaying)?;
    Ok(used / f64::from(IDLE_CONNECTIONS))
}

fn resident_kib() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("Linux tells the resident set")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn cpu(usage: &Usage) -> Duration {
    let seconds = |time: TimeVal| {
        Duration::from_micros(u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap_or(0))
    };
    seconds(usage.user_time()) + seconds(usage.system_time())
}

fn join<T>(thread: thread::JoinHandle<Result<T>>) -> Result<T> {
    thread
        .join()
        .map_err(|_panic| anyhow::anyhow!("a thread of the benchmark panicked"))?
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[derive(Default)]
struct Results {
    relay: Vec<f64>,
    all: Vec<f64>,
    message: Vec<f64>,
}

/// Memory is measured in a process of its own, where nothing was freed before.
fn idle_memory_alone(way: usize) -> Result<String> {
    let child = std::process::Command::new(std::env::current_exe()?)
        .args(["--idle", &way.to_string()])
        .output()?;
    anyhow::ensure!(
        child.status.success(),
        "{}",
        String::from_utf8_lossy(&child.stderr)
    );
    Ok(String::from_utf8(child.stdout)?)
}

fn main() -> Result<()> {
    raise_descriptor_limit()?;
    let arguments: Vec<_> = std::env::args().collect();
    if let [_, idle, way] = &arguments[..]
        && idle == "--idle"
    {
        print!("{:.1}", idle_memory(&WAYS[way.parse::<usize>()?])?);
        return Ok(());
    }
    let mut results: Vec<Results> = WAYS.iter().map(|_| Results::default()).collect();
    for _ in 0..ROUNDS {
        for (way, result) in WAYS.iter().zip(&mut results) {
            let [of_relay, of_all] = bulk(way)?;
            result.relay.push(of_relay);
            result.all.push(of_all);
            result.message.push(messages(way)?);
        }
    }
    println!(
        "{:<20} {:>16} {:>14} {:>18} {:>16}",
        "", "relay CPU s/GB", "all CPU s/GB", "relay us/message", "KiB/idle conn."
    );
    for (index, (way, result)) in WAYS.iter().zip(results).enumerate() {
        let (of_relay, of_all) = (median(result.relay), median(result.all));
        let message = median(result.message);
        // Its pipes would need more descriptors than there are.
        let memory = if way.name.starts_with("splice") {
            "-".to_owned()
        } else {
            idle_memory_alone(index)?
        };
        println!(
            "{:<20} {of_relay:>16.3} {of_all:>14.3} {message:>18.2} {memory:>16}",
            way.name
        );
    }
    Ok(())
}
