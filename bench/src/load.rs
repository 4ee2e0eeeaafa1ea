//! What applications do to the client half of a pair, and how long each of it took.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use proxy_core::framing::Framed;
use proxy_core::tls::{client_config, config::client_config_for, connect};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::upstream::{EVENT, clock_ns};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A new connection and one request, again and again
    Conn,
    /// Requests on kept connections
    Http,
    /// As `http`, of an upstream that thinks for 100 ms
    Slow,
    /// Events every 10 ms; the latency is from the upstream's write to our read
    Events,
    /// One large response for each connection
    Down,
    /// One large request for each connection
    Up,
    /// Connections that did one request and are held
    Idle,
    /// Full handshakes with the server half: TLS, and what it proves where it is evident-proxy
    HandshakeEvident,
    HandshakeTls,
}

#[derive(Clone, Copy, Debug, Args)]
#[group(skip)]
pub(crate) struct Load {
    #[arg(long, value_enum)]
    pub(crate) kind: Kind,
    #[arg(long, default_value_t = 16)]
    pub(crate) connections: usize,
    #[arg(long, default_value_t = 3)]
    pub(crate) seconds: u64,
    /// Bytes in all, of `down` and `up`
    #[arg(long, default_value_t = 2_000_000_000)]
    pub(crate) bytes: u64,
    /// Of `conn` and handshakes: each connection does one per this long, all at the same moment; 0 is one after the other
    #[arg(long, default_value_t = 0)]
    pub(crate) every_ms: u64,
}

/// What came of a load.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) operations: u64,
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
    pub(crate) errors: u64,
    /// Microseconds, sorted.
    pub(crate) latencies: Vec<f64>,
}

impl Outcome {
    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "operations": self.operations, "bytes": self.bytes, "seconds": self.seconds, "errors": self.errors,
            "p50_us": self.quantile(0.5), "p99_us": self.quantile(0.99),
        })
    }

    pub(crate) fn quantile(&self, q: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get((last as f64 * q).round() as usize).copied().unwrap_or(0.0)
    }
}

impl Load {
    /// Runs it. Connections of `idle` are open until the process ends: the caller kills it.
    pub(crate) async fn run(self, to: SocketAddr) -> Result<Outcome> {
        let started = Instant::now();
        let until = started + Duration::from_secs(self.seconds);
        let share = self.bytes / self.connections.max(1) as u64;
        let mut running = JoinSet::new();
        for _ in 0..self.connections {
            running.spawn(async move {
                let mut part = Outcome::default();
                let result = match self.kind {
                    Kind::Conn => self.repeat(started, &mut part, || request(to, "/1k")).await,
                    Kind::Http => kept(to, until, "/1k", &mut part).await,
                    Kind::Slow => kept(to, until, "/think/100", &mut part).await,
                    Kind::Events => events(to, self.seconds * 100, &mut part).await,
                    Kind::Down => down(to, share, &mut part).await,
                    Kind::Up => up(to, share, &mut part).await,
                    Kind::HandshakeEvident => self.repeat(started, &mut part, || handshake(to, true)).await,
                    Kind::HandshakeTls => self.repeat(started, &mut part, || handshake(to, false)).await,
                    Kind::Idle => Ok(()),
                };
                part.errors += u64::from(result.is_err());
                part
            });
        }
        let mut all = Outcome::default();
        while let Some(part) = running.join_next().await {
            let part = part?;
            all.operations += part.operations;
            all.bytes += part.bytes;
            all.errors += part.errors;
            all.latencies.extend(part.latencies);
        }
        if self.kind == Kind::Idle {
            let held = hold(to, self.connections).await?;
            println!("{}", serde_json::json!({ "held": held.len() }));
            std::future::pending::<()>().await;
        }
        all.seconds = started.elapsed().as_secs_f64();
        all.latencies.sort_by(f64::total_cmp);
        Ok(all)
    }

    async fn repeat<F: Future<Output = Result<()>>>(
        self,
        started: Instant,
        part: &mut Outcome,
        once: impl Fn() -> F,
    ) -> Result<()> {
        let until = started + Duration::from_secs(self.seconds);
        while Instant::now() < until {
            let begun = Instant::now();
            match once().await {
                Ok(()) => {
                    part.operations += 1;
                    part.latencies.push(begun.elapsed().as_secs_f64() * 1e6);
                }
                Err(_) => part.errors += 1,
            }
            let elapsed = u64::try_from(started.elapsed().as_millis())?;
            if let Some(passed) = elapsed.checked_div(self.every_ms) {
                let next = started + Duration::from_millis((passed + 1) * self.every_ms);
                tokio::time::sleep_until(next.into()).await;
            }
        }
        Ok(())
    }
}

async fn dial(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn ask(stream: &mut TcpStream, path: &str, buffer: &mut Vec<u8>) -> Result<()> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n").as_bytes()).await?;
    buffer.clear();
    let whole = loop {
        ensure!(stream.read_buf(buffer).await? > 0, "the connection ended");
        if let Some(head) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break head + 4 + 1024;
        }
    };
    while buffer.len() < whole {
        ensure!(stream.read_buf(buffer).await? > 0, "the connection ended");
    }
    Ok(())
}

async fn request(to: SocketAddr, path: &str) -> Result<()> {
    let mut stream = dial(to).await?;
    ask(&mut stream, path, &mut Vec::with_capacity(2048)).await
}

async fn kept(to: SocketAddr, until: Instant, path: &str, part: &mut Outcome) -> Result<()> {
    let mut stream = dial(to).await?;
    let mut buffer = Vec::with_capacity(2048);
    while Instant::now() < until {
        let begun = Instant::now();
        ask(&mut stream, path, &mut buffer).await?;
        part.operations += 1;
        part.latencies.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    Ok(())
}

async fn events(to: SocketAddr, n: u64, part: &mut Outcome) -> Result<()> {
    let mut stream = dial(to).await?;
    stream.write_all(format!("GET /events/{n} HTTP/1.1\r\nHost: bench\r\n\r\n").as_bytes()).await?;
    let mut buffer = Vec::with_capacity(4096);
    while !buffer.windows(4).any(|window| window == b"\r\n\r\n") {
        ensure!(stream.read_buf(&mut buffer).await? > 0, "the connection ended");
    }
    let head = buffer.windows(4).position(|window| window == b"\r\n\r\n").context("a head")? + 4;
    buffer.drain(..head);
    loop {
        while let Some(event) = buffer.first_chunk::<EVENT>() {
            let sent = u64::from_be_bytes(*event.first_chunk::<8>().context("a time")?);
            part.latencies.push(clock_ns().saturating_sub(sent) as f64 / 1e3);
            part.operations += 1;
            buffer.drain(..EVENT);
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

async fn down(to: SocketAddr, bytes: u64, part: &mut Outcome) -> Result<()> {
    let mut stream = dial(to).await?;
    stream.write_all(format!("GET /bytes/{bytes} HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut sink = vec![0; 256 * 1024];
    loop {
        match stream.read(&mut sink).await? {
            0 if part.bytes >= bytes => return Ok(()),
            0 => bail!("{} of {bytes} bytes came", part.bytes),
            n => part.bytes += n as u64,
        }
    }
}

async fn up(to: SocketAddr, bytes: u64, part: &mut Outcome) -> Result<()> {
    let mut stream = dial(to).await?;
    let head = format!("POST /sink HTTP/1.1\r\nHost: b\r\nContent-Length: {bytes}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let block = vec![b'x'; 256 * 1024];
    while part.bytes < bytes {
        let n = block.len().min(usize::try_from(bytes - part.bytes)?);
        stream.write_all(&block[..n]).await?;
        part.bytes += n as u64;
    }
    ensure!(stream.read(&mut [0; 128]).await? > 0, "no answer");
    Ok(())
}

async fn hold(to: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
    let mut held = Vec::with_capacity(count);
    let mut opening = JoinSet::new();
    for number in 0..count {
        opening.spawn(async move {
            let mut stream = dial(to).await?;
            ask(&mut stream, "/1k", &mut Vec::with_capacity(2048)).await?;
            anyhow::Ok(stream)
        });
        if number % 16 == 15 {
            while let Some(opened) = opening.join_next().await {
                held.push(opened??);
            }
        }
    }
    while let Some(opened) = opening.join_next().await {
        held.push(opened??);
    }
    Ok(held)
}

/// Our client's handshake and the reading of ATTEST, nothing verified; or a plain TLS 1.3 handshake.
async fn handshake(to: SocketAddr, evident: bool) -> Result<()> {
    let name = ServerName::try_from("localhost")?;
    let stream = dial(to).await?;
    if evident {
        let tls = connect(Arc::new(client_config(None)?), name, stream).await?.tls;
        let mut framed = Framed::new(tls);
        framed.read().await?;
        return Ok(());
    }
    let config = Arc::new(client_config_for(&[], None)?);
    let mut tls = tokio_rustls::TlsConnector::from(config).connect(name, stream).await?;
    tls.shutdown().await?;
    Ok(())
}
