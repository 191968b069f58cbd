//! The command `__get`: what `helm test` runs.
//!
//! The image holds this one program and no other, so it asks the health application itself.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::cli;

/// For one answer. The health application has asked everybody before, so it needs no time.
const ANSWER: Duration = Duration::from_secs(5);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(500);
/// Thousands of destinations fit in.
const MOST_BYTES: usize = 16 << 20;

/// Prints what each address answers; fails unless all say that everything is well.
pub fn get(arguments: &cli::Get) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime starts")?;
    let within = Duration::from_secs(arguments.within.into());
    for url in &arguments.urls {
        runtime
            .block_on(wait_until_well(url, within))
            .with_context(|| url.to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn wait_until_well(url: &Uri, within: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + within;
    loop {
        let answer = ask_in_time(url).await;
        let verdict = match &answer {
            Ok(answer) => answer.verdict(),
            Err(error) => Err(anyhow::anyhow!("{error:#}")),
        };
        if verdict.is_ok() || Instant::now() + PAUSE > deadline {
            if let Ok(answer) = answer {
                println!("{}", answer.body);
            }
            return verdict;
        }
        sleep(PAUSE).await;
    }
}

struct Answer {
    status: StatusCode,
    body: String,
}

impl Answer {
    fn verdict(&self) -> anyhow::Result<()> {
        ensure!(
            self.status.is_success(),
            "the answer has the status {}",
            self.status
        );
        let answer: Value = serde_json::from_str(&self.body).context("the answer is not JSON")?;
        match answer["Status"].as_str() {
            Some("ok") => Ok(()),
            Some(other) => bail!("Status is {other}"),
            None => bail!("the answer has no Status"),
        }
    }
}

async fn ask_in_time(url: &Uri) -> anyhow::Result<Answer> {
    timeout(ANSWER, ask(url)).await.context("no answer in time")?
}

async fn ask(url: &Uri) -> anyhow::Result<Answer> {
    let authority = url
        .authority()
        .filter(|_| url.scheme_str() == Some("http"))
        .context("only http://HOST/PATH is understood")?;
    let host = authority.host().trim_matches(['[', ']']);
    let tcp = TcpStream::connect((host, authority.port_u16().unwrap_or(80)))
        .await
        .context("nobody answers")?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await?;
    // It ends with the runtime, at the latest.
    tokio::spawn(connection);
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header(header::HOST, authority.as_str())
        .body(Empty::<Bytes>::new())?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, MOST_BYTES).collect().await;
    let body = body.map_err(anyhow::Error::from_boxed)?.to_bytes();
    Ok(Answer {
        status: head.status,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener};
    use std::thread::{self, JoinHandle};

    use super::*;

    /// Answers one connection after the other; gives back what it was asked.
    fn server(answers: &'static [&'static str]) -> (SocketAddr, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = thread::spawn(move || {
            let mut asked = [0; 1024];
            let mut length = 0;
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                length = stream.read(&mut asked).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
            String::from_utf8_lossy(&asked[..length]).into_owned()
        });
        (address, thread)
    }

    fn ask_for(url: &str, within: u16) -> Result<(), String> {
        let urls = vec![url.parse().unwrap()];
        let done = get(&cli::Get { within, urls });
        done.map(drop).map_err(|error| format!("{error:#}"))
    }

    const WELL: &str = "HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"Status\":\"ok\"}";
    const ILL: &str = "HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{\"Status\":\"warning\"}";
    const BROKEN: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
    const TEXT: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
    const EMPTY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

    #[test]
    fn what_is_well_is_asked_once_with_host_and_path() {
        let (address, server) = server(&[WELL]);
        ask_for(&format!("http://{address}/status?all"), 0).unwrap();
        let asked = server.join().unwrap();
        assert!(asked.starts_with("GET /status?all HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains(&format!("host: {address}\r\n")), "{asked}");
    }

    #[test]
    fn what_is_not_well_is_a_failure() {
        let cases: &[(&'static [&'static str], &str)] = &[
            (&[ILL], "Status is warning"),
            (&[BROKEN], "the status 503"),
            (&[TEXT], "not JSON"),
            (&[EMPTY], "no Status"),
        ];
        for (answers, message) in cases {
            let (address, server) = server(answers);
            let error = ask_for(&format!("http://{address}/status"), 0).unwrap_err();
            assert!(error.contains(message), "{error}");
            assert!(error.contains(&address.to_string()), "{error}");
            server.join().unwrap();
        }
    }

    #[test]
    fn what_becomes_well_in_time_is_well() {
        let (address, server) = server(&[BROKEN, ILL, WELL]);
        ask_for(&format!("http://{address}/"), 20).unwrap();
        server.join().unwrap();
    }

    #[test]
    fn nobody_there_is_a_failure() {
        // Bound and never listened at: connections are refused, and nobody else gets the port.
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let loopback: SocketAddr = "127.0.0.1:0".parse().unwrap();
        socket.bind(&loopback.into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let error = ask_for(&format!("http://{address}/"), 0).unwrap_err();
        assert!(error.contains("nobody answers"), "{error}");
    }

    #[test]
    fn other_schemes_are_refused() {
        let error = ask_for("https://127.0.0.1/", 0).unwrap_err();
        assert!(error.contains("only http://"), "{error}");
    }
}
