//! An HTTP/1.1 server of one thread: `/1k` gives 1,024 bytes; `/think/MS` the same after a while; `/bytes/N` N bytes; `/events/N`
//! N chunks of 64 bytes, 10 ms apart, each beginning with the time; `POST /sink` takes a body.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

pub(crate) const EVENT: usize = 64;
pub(crate) const EVERY: Duration = Duration::from_millis(10);

pub(crate) fn listener(address: SocketAddr) -> Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address).with_context(|| format!("binding {address}"))?;
    Ok(socket.listen(4096)?)
}

pub(crate) async fn serve(address: SocketAddr) -> Result<()> {
    let listener = listener(address)?;
    let mut serving = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        let _ = stream.set_nodelay(true);
        serving.spawn(async move {
            let _ = connection(stream).await;
        });
        while serving.try_join_next().is_some() {}
    }
}

/// The clock of one machine, which both ends read.
pub(crate) fn clock_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

async fn connection(mut stream: TcpStream) -> Result<()> {
    let mut buffer = Vec::with_capacity(4096);
    loop {
        let head = loop {
            if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let text = String::from_utf8_lossy(&buffer[..head]).into_owned();
        buffer.drain(..head);
        let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
        let last = text.contains("Connection: close");
        let mut parts = path.split('/').skip(1);
        let (what, n) = (parts.next().unwrap_or_default(), parts.next().and_then(|n| n.parse().ok()).unwrap_or(0_u64));
        match what {
            "think" => {
                tokio::time::sleep(Duration::from_millis(n)).await;
                answer(&mut stream, 1024).await?;
            }
            "bytes" => answer(&mut stream, n).await?,
            "events" => events(&mut stream, n).await?,
            "sink" => {
                let length = text.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap_or("0");
                let mut left = length.trim().parse::<u64>()?.saturating_sub(buffer.len() as u64);
                buffer.clear();
                let mut sink = vec![0; 256 * 1024];
                while left > 0 {
                    let most = sink.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    match stream.read(&mut sink[..most]).await? {
                        0 => return Ok(()),
                        n => left -= n as u64,
                    }
                }
                answer(&mut stream, 2).await?;
            }
            _ => answer(&mut stream, 1024).await?,
        }
        if last {
            stream.shutdown().await?;
            return Ok(());
        }
    }
}

async fn answer(stream: &mut TcpStream, n: u64) -> Result<()> {
    let mut first = format!("HTTP/1.1 200 OK\r\nContent-Length: {n}\r\n\r\n").into_bytes();
    let small = usize::try_from(n.min(16_384))?;
    first.resize(first.len() + small, b'x');
    stream.write_all(&first).await?;
    let block = vec![b'x'; 256 * 1024];
    let mut left = n - small as u64;
    while left > 0 {
        let part = block.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        stream.write_all(&block[..part]).await?;
        left -= part as u64;
    }
    Ok(())
}

async fn events(stream: &mut TcpStream, n: u64) -> Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n").await?;
    let mut ticks = tokio::time::interval(EVERY);
    for _ in 0..n {
        ticks.tick().await;
        let mut event = [b' '; EVENT];
        event[..8].copy_from_slice(&clock_ns().to_be_bytes());
        stream.write_all(&event).await?;
    }
    stream.shutdown().await?;
    Ok(())
}
