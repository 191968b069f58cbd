//! The least that a forwarder on hyper can do: one upstream connection per
//! client connection, one header set. A lower bound for `cargo xtask bench http
//! --peers bare-hyper`, not a proxy.
//!
//! `bare_forwarder PORT UPSTREAM_PORT AUTHORIZATION`

use std::env;
use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use http::HeaderValue;
use http::header::AUTHORIZATION;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, client, server};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [port, upstream, credential] = arguments.as_slice() else {
        anyhow::bail!("usage: bare_forwarder PORT UPSTREAM_PORT AUTHORIZATION");
    };
    let upstream: u16 = upstream.parse().context("UPSTREAM_PORT is a port")?;
    let credential = HeaderValue::from_str(credential).context("AUTHORIZATION is a header value")?;
    let port: u16 = port.parse().context("PORT is a port")?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .context("the port is free")?;
    loop {
        let (stream, _) = listener.accept().await.context("a connection comes in")?;
        tokio::spawn(forward(stream, upstream, credential.clone()));
    }
}

async fn forward(stream: TcpStream, upstream: u16, credential: HeaderValue) -> Result<()> {
    stream.set_nodelay(true)?;
    let target = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream)).await?;
    target.set_nodelay(true)?;
    let (sender, connection) = client::conn::http1::handshake(TokioIo::new(target)).await?;
    tokio::spawn(connection);
    // HTTP/1 has one request at a time: nobody ever waits here.
    let sender = Mutex::new(sender);
    let service = service_fn(|mut request: Request<Incoming>| {
        request.headers_mut().insert(AUTHORIZATION, credential.clone());
        async { sender.lock().await.send_request(request).await }
    });
    server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await?;
    Ok(())
}
